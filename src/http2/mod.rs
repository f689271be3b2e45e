//! One client connection as a machine: bytes in, calls out, replies in, bytes out.
