//! A request's headers, decoded and found valid.

/// A header list: pseudo-fields and fields as byte pairs in one arena.
#[derive(Debug)]
pub struct Head {
    id: u64,
}

impl Head {
    /// A number that on one connection stands for exactly this content: equal ids, equal heads.
    ///
    /// Lets the owner keep its routing decision per id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `:method`; empty in trailers.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        unimplemented!()
    }

    /// `:path`; empty in trailers and for CONNECT.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        unimplemented!()
    }

    /// `:scheme`; empty in trailers and for CONNECT.
    #[must_use]
    pub fn scheme(&self) -> &[u8] {
        unimplemented!()
    }

    /// `:authority`; empty if the client sent none.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        unimplemented!()
    }

    /// The first field of this lower-case name.
    #[must_use]
    pub fn get(&self, _name: &[u8]) -> Option<&[u8]> {
        unimplemented!()
    }

    /// `content-type`, if any.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        unimplemented!()
    }

    /// `grpc-timeout`, if any, as sent.
    #[must_use]
    pub fn grpc_timeout(&self) -> Option<&[u8]> {
        unimplemented!()
    }

    /// All fields in the order sent, pseudo-fields first.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
}
