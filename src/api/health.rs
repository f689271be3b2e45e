//! gRPC's own health service.

use crate::api::call::Immediate;
use crate::api::call::PREFIX_SIZE;
use crate::api::call::set_prefix;
use crate::api::proto::health::HealthCheckRequest;
use crate::api::proto::health::HealthCheckResponse;
use crate::api::proto::health::health_check_response::ServingStatus;
use crate::api::status;
use crate::api::status::Code;
use crate::api::status::Status;
use prost::Message;

/// The answer of `grpc.health.v1.Health` (spec §1.11): the server as a whole serves, and no service
/// is known by another name.
pub(crate) fn answer(message: &[u8], watch: bool) -> Immediate {
    let Ok(request) = HealthCheckRequest::decode(message) else {
        return Immediate::End(status::MALFORMED);
    };
    let serving = match (request.service.as_str(), watch) {
        ("", _) => ServingStatus::Serving,
        (_, true) => ServingStatus::ServiceUnknown,
        (_, false) => {
            return Immediate::End(Status::fixed(Code::NotFound, "unknown service"));
        }
    };
    let mut out = vec![0; PREFIX_SIZE];
    let response = HealthCheckResponse { status: serving.into() };
    response.encode(&mut out).expect("a vector takes every message");
    set_prefix(&mut out);
    if watch { Immediate::Stream(out) } else { Immediate::Message(out) }
}
