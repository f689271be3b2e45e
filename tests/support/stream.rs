//! A call of which both sides are streams: messages go out and are taken as the test wants.

use super::call::{Answer, PATIENCE, framed, named, sorted};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use prost::Message;
use std::time::Duration;

/// An open call; given up when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    sending: SendStream<Bytes>,
    arriving: Arriving,
    /// What has come and was not taken.
    unread: BytesMut,
    /// All that came but the messages.
    answer: Answer,
}

/// How far the server's side has come.
#[derive(Debug)]
enum Arriving {
    /// Not even headers; a server may keep them until its first message.
    Nothing(ResponseFuture),
    /// Headers.
    Body(RecvStream),
    /// All.
    End,
}

impl Stream {
    /// A call whose head was sent.
    pub(super) fn new(response: ResponseFuture, sending: SendStream<Bytes>) -> Self {
        let arriving = Arriving::Nothing(response);
        Self { sending, arriving, unread: BytesMut::new(), answer: Answer::default() }
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// If the server has ended the call.
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), String> {
        self.send_bytes(framed(0, &message.encode_to_vec()))
    }

    /// Sends any bytes, as one frame if they fit into one.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub(crate) fn send_bytes(&mut self, bytes: impl Into<Bytes>) -> Result<(), String> {
        self.sending.send_data(bytes.into(), false).map_err(|error| named(&error))
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.sending.send_data(Bytes::new(), true).map_err(|error| named(&error))
    }

    /// The next message.
    ///
    /// # Errors
    ///
    /// All else that came, if the call has ended, or nothing comes.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<M, Answer> {
        match self.next_within(PATIENCE).await? {
            Some(message) => Ok(message),
            None => Err(self.ended(format!("no message after {PATIENCE:?}"))),
        }
    }

    /// The next message, if one comes within `limit`. Nothing is lost if none does.
    ///
    /// # Errors
    ///
    /// All else that came, if the call has ended.
    pub(crate) async fn next_within<M: Message + Default>(
        &mut self,
        limit: Duration,
    ) -> Result<Option<M>, Answer> {
        match tokio::time::timeout(limit, self.message()).await {
            Ok(Ok(message)) => match M::decode(message) {
                Ok(message) => Ok(Some(message)),
                Err(error) => Err(self.ended(error.to_string())),
            },
            Ok(Err(answer)) => Err(answer),
            Err(_) => Ok(None),
        }
    }

    /// All that came but the messages, once the server has ended the call.
    ///
    /// # Errors
    ///
    /// If a message comes instead, or nothing.
    pub(crate) async fn rest(&mut self) -> Result<Answer, String> {
        match tokio::time::timeout(PATIENCE, self.message()).await {
            Ok(Ok(message)) => Err(format!("a message of {} bytes", message.len())),
            Ok(Err(answer)) => Ok(answer),
            Err(_) => Err(format!("no end after {PATIENCE:?}")),
        }
    }

    /// The bytes of the next message, or all else that came if the call has ended.
    async fn message(&mut self) -> Result<Bytes, Answer> {
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            if matches!(self.arriving, Arriving::End) {
                return Err(Answer { body: self.unread.clone().freeze(), ..self.answer.clone() });
            }
            if let Err(error) = self.receive().await {
                self.answer.failure = Some(named(&error));
                self.arriving = Arriving::End;
            }
        }
    }

    /// Takes one message out of what has come, if it is whole and plain.
    fn take(&mut self) -> Option<Bytes> {
        let (prefix, after) = self.unread.split_at_checked(5)?;
        let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
        let length = usize::try_from(length).expect("32 bits fit");
        if prefix[0] != 0 || after.len() < length {
            return None;
        }
        self.unread.advance(5);
        Some(self.unread.split_to(length).freeze())
    }

    async fn receive(&mut self) -> Result<(), h2::Error> {
        match &mut self.arriving {
            Arriving::Nothing(response) => {
                let response = response.await?;
                self.answer.http = response.status().as_u16();
                self.answer.headers = sorted(response.headers());
                self.arriving = Arriving::Body(response.into_body());
            }
            Arriving::Body(body) => {
                if let Some(chunk) = body.data().await {
                    let chunk = chunk?;
                    body.flow_control().release_capacity(chunk.len())?;
                    self.unread.extend_from_slice(&chunk);
                } else {
                    let trailers = body.trailers().await?;
                    self.answer.trailers = trailers.as_ref().map(sorted).unwrap_or_default();
                    self.arriving = Arriving::End;
                }
            }
            Arriving::End => {}
        }
        Ok(())
    }

    fn ended(&self, failure: String) -> Answer {
        Answer { failure: Some(failure), ..self.answer.clone() }
    }
}
