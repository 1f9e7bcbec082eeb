//! Several folders' message files side by side, in the order in which they are stored (that of their names as bytes).

use std::iter::Peekable;

use mailkeep_mail::cyrus::message_uid;
use mailkeep_restorer::format::Node;
use mailkeep_restorer::{ContentsError, Nodes};

/// A UID, and the nodes of that name with the number of their stream.
pub(crate) type Found = (u32, Vec<(usize, Node)>);
/// The number of a stream that broke off, and why.
pub(crate) type Broken = (usize, ContentsError);

/// Goes through streams of nodes at once.
pub(crate) struct Merge<'a> {
    streams: Vec<Peekable<Nodes<'a>>>,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(streams: Vec<Nodes<'a>>) -> Self {
        Merge { streams: streams.into_iter().map(Iterator::peekable).collect() }
    }

    /// The next message file: its UID, and the nodes of that name with the number of their stream.
    ///
    /// # Errors
    /// A folder cannot be read; the number of its stream is told, the others go on.
    pub(crate) fn next(&mut self) -> Option<Result<Found, Broken>> {
        loop {
            let mut least: Option<&[u8]> = None;
            for (number, stream) in self.streams.iter_mut().enumerate() {
                match stream.peek() {
                    None => {}
                    Some(Err(error)) => {
                        let error = error.clone();
                        stream.next();
                        return Some(Err((number, error)));
                    }
                    Some(Ok(node)) if least.is_none_or(|least| node.name.as_slice() < least) => {
                        least = Some(&node.name);
                    }
                    Some(Ok(_)) => {}
                }
            }
            let name = least?.to_vec();
            let mut found = Vec::new();
            for (number, stream) in self.streams.iter_mut().enumerate() {
                if let Some(Ok(node)) =
                    stream.next_if(|node| node.as_ref().is_ok_and(|node| node.name == name))
                {
                    found.push((number, node));
                }
            }
            found.retain(|(_, node)| node.is_file());
            if let (Some(uid), false) = (message_uid(&name), found.is_empty()) {
                return Some(Ok((uid, found)));
            }
        }
    }
}
