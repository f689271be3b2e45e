//! Answers about members and their alarms.

use crate::failure::Failure;
use crate::print::Fields;
use crate::print::Show;
use crate::print::json;
use crate::print::json::Object;
use crate::print::push_line;
use crate::print::table::table;
use prost::Message;
use ringd::api::proto::etcdserverpb::AlarmMember;
use ringd::api::proto::etcdserverpb::AlarmResponse;
use ringd::api::proto::etcdserverpb::AlarmType;
use ringd::api::proto::etcdserverpb::Member;
use ringd::api::proto::etcdserverpb::MemberAddResponse;
use ringd::api::proto::etcdserverpb::MemberListResponse;
use ringd::api::proto::etcdserverpb::MemberPromoteResponse;
use ringd::api::proto::etcdserverpb::MemberRemoveResponse;
use ringd::api::proto::etcdserverpb::MemberUpdateResponse;
use ringd::api::proto::etcdserverpb::MoveLeaderResponse;
use ringd::api::proto::etcdserverpb::ResponseHeader;

/// The columns of a member.
fn columns(member: &Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

/// A field with an id, which is a number or, in hexadecimal, a text.
fn id(object: Object, name: &str, id: u64, hex: bool) -> Object {
    if hex { object.raw(name, &format!("\"{id:x}\"")) } else { object.number(name, id) }
}

/// A header whose ids may be hexadecimal.
fn header_of(header: &ResponseHeader, hex: bool) -> String {
    let object = id(Object::new(), "cluster_id", header.cluster_id, hex);
    id(object, "member_id", header.member_id, hex)
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
        .done()
}

/// One member.
fn member_of(member: &Member, hex: bool) -> String {
    id(Object::new(), "ID", member.id, hex)
        .text("name", &member.name)
        .list("peerURLs", member.peer_ur_ls.iter().map(|url| json::string(url)))
        .list("clientURLs", member.client_ur_ls.iter().map(|url| json::string(url)))
        .flag("isLearner", member.is_learner)
        .done()
}

/// The header of an answer with members in it, if it has one.
fn headed(header: Option<&ResponseHeader>, hex: bool) -> Object {
    Object::new().some("header", header.map(|header| header_of(header, hex)))
}

impl Show for MemberListResponse {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        for member in &self.members {
            push_line(out, columns(member).join(", ").as_bytes(), false);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        for member in &self.members {
            fields.id("ID", member.id);
            fields.quoted("Name", member.name.as_bytes());
            for url in &member.peer_ur_ls {
                fields.quoted("PeerURL", url.as_bytes());
            }
            for url in &member.client_ur_ls {
                fields.quoted("ClientURL", url.as_bytes());
            }
            fields.plain("IsLearner", member.is_learner);
            fields.end();
        }
    }

    fn json(&self, hex: bool) -> String {
        let members = self.members.iter().map(|member| member_of(member, hex));
        headed(self.header.as_ref(), hex).list("members", members).done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }

    fn table(&self) -> Option<String> {
        let heads = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
        Some(table(&heads, &self.members.iter().map(columns).collect::<Vec<_>>()))
    }
}

/// The id of the cluster that has answered.
fn cluster(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

impl Show for MemberAddResponse {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        let member = self.member.clone().unwrap_or_default();
        let how = if member.is_learner { " as learner " } else { " " };
        let cluster = cluster(self.header.as_ref());
        let line = format!("Member {:16x} added{how}to cluster {cluster:16x}", member.id);
        push_line(out, line.as_bytes(), false);
    }

    fn fields(&self, _: &mut Fields) {}

    fn has_fields(&self) -> bool {
        false
    }

    fn json(&self, hex: bool) -> String {
        headed(self.header.as_ref(), hex)
            .some("member", self.member.as_ref().map(|member| member_of(member, hex)))
            .list("members", self.members.iter().map(|member| member_of(member, hex)))
            .done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}

/// A change of one member, of which only that it was made is worth a line.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    id: u64,
    /// What was done with it.
    how: &'static str,
    header: Option<ResponseHeader>,
    /// All members, as they are now.
    members: Vec<Member>,
}

impl Changed {
    /// It left.
    pub(crate) fn removed(id: u64, answer: MemberRemoveResponse) -> Self {
        let MemberRemoveResponse { header, members } = answer;
        Self { id, how: "removed from", header, members }
    }

    /// Its peers find it elsewhere.
    pub(crate) fn updated(id: u64, answer: MemberUpdateResponse) -> Self {
        let MemberUpdateResponse { header, members } = answer;
        Self { id, how: "updated in", header, members }
    }

    /// It has a vote.
    pub(crate) fn promoted(id: u64, answer: MemberPromoteResponse) -> Self {
        let MemberPromoteResponse { header, members } = answer;
        Self { id, how: "promoted in", header, members }
    }
}

impl Show for Changed {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        let cluster = cluster(self.header.as_ref());
        let line = format!("Member {:16x} {} cluster {cluster:16x}", self.id, self.how);
        push_line(out, line.as_bytes(), false);
    }

    fn fields(&self, _: &mut Fields) {}

    fn has_fields(&self) -> bool {
        false
    }

    fn json(&self, hex: bool) -> String {
        let members = self.members.iter().map(|member| member_of(member, hex));
        headed(self.header.as_ref(), hex).list("members", members).done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        // The three answers have the same fields by the same numbers.
        let Self { header, members, .. } = self.clone();
        Ok(MemberRemoveResponse { header, members }.encode_to_vec())
    }
}

/// Leadership that went from one member to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// Who led.
    pub(crate) from: u64,
    /// Who leads.
    pub(crate) to: u64,
    /// What the server answered.
    pub(crate) answer: MoveLeaderResponse,
}

impl Show for Moved {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        let line = format!("Leadership transferred from {:x} to {:x}", self.from, self.to);
        push_line(out, line.as_bytes(), false);
    }

    fn fields(&self, _: &mut Fields) {}

    fn has_fields(&self) -> bool {
        false
    }

    fn json(&self, _: bool) -> String {
        Object::headed(self.answer.header.as_ref()).done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.answer.encode_to_vec())
    }
}

/// What an alarm is called.
pub(crate) fn alarm_name(alarm: &AlarmMember) -> &'static str {
    AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name())
}

impl Show for AlarmResponse {
    fn simple(&self, out: &mut Vec<u8>, _: bool) {
        for alarm in &self.alarms {
            let line = format!("memberID:{} alarm:{}", alarm.member_id, alarm_name(alarm));
            push_line(out, line.as_bytes(), false);
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.header(self.header.as_ref());
        for alarm in &self.alarms {
            fields.id("MemberID", alarm.member_id);
            fields.plain("AlarmType", alarm_name(alarm));
            fields.end();
        }
    }

    fn json(&self, _: bool) -> String {
        let alarms = self.alarms.iter().map(|alarm| {
            let object = Object::new().number("memberID", alarm.member_id);
            object.number("alarm", alarm.alarm).done()
        });
        Object::headed(self.header.as_ref()).list("alarms", alarms).done()
    }

    fn protobuf(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.encode_to_vec())
    }
}
