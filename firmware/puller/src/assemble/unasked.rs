//! A pass whose contents come unasked: the repository holds nothing, so that there is nothing to ask for.
//!
//! What guards a chunk elsewhere holds here too. Its hash is the box's own, made of the very bytes that are stored, so that
//! an id never stands for anything else; that they are those of the file is for the agent to see, who looks at the file
//! before and after it has read it (`steady`), and for the sum of the lengths, which has to be the file's size. What is
//! not there is a second hash made by the agent between its read and its write. It would notice bytes that change in the
//! memory of this very machine on their way through a pipe; those that change before it, or after the box has compared,
//! it never noticed.

use std::mem::size_of;

use mailkeep_format::ContentHash;
use mailkeep_link::message::Data;

use super::Assembly;
use crate::PullError;
use crate::directory::check_length;
use crate::file::Piece;
use crate::store::Store;

impl Assembly {
    /// The same, where the agent was told to send contents without asking what is here.
    pub fn unasked(self) -> Self {
        Assembly { unasked: true, ..self }
    }

    /// The next chunk of a file whose chunks are not announced: its length and its hash are those of the bytes that came.
    pub(super) fn data_unasked(&mut self, data: Data, store: &mut dyn Store) -> Result<(), PullError> {
        let Data { file: id, chunk: number, bytes } = data;
        if number as usize != self.wanted(id)?.announced() {
            return Err(PullError::protocol("a chunk of a file is missing or comes twice"));
        }
        check_length(u32::try_from(bytes.len()).unwrap_or(u32::MAX))?;
        self.tally.bytes_sent += bytes.len() as u64;
        let chunk = store.put(&ContentHash::of(&bytes), &bytes)?;
        self.held.add(size_of::<Piece>());
        self.wanted(id)?.announce(Piece::Here(chunk));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_link::message::{FileDone, ReadOutcome, ToBox};

    use super::super::tests::{Memory, at, chunks, data, ended, file, folder, id, listing, read};
    use super::super::{Assembled, Assembly, Mode};
    use crate::PullError;
    use crate::store::Store;

    fn begun(store: &mut Memory, sizes: [u64; 2]) -> Assembly {
        let assembly = Assembly::new(Mode::Live, at(1_000), None).unasked();
        let files = vec![file("1.", sizes[0]), file("2.", sizes[1]), folder("d")];
        take(assembly, store, listing(0, None, files)).unwrap()
    }

    fn take(mut assembly: Assembly, store: &mut dyn Store, message: ToBox) -> Result<Assembly, PullError> {
        assembly.take(message, store, &mut Vec::new()).map(|()| assembly)
    }

    fn take_all(
        assembly: Assembly,
        store: &mut Memory,
        messages: impl IntoIterator<Item = ToBox>,
    ) -> Result<Assembled, PullError> {
        let rest = [listing(1, Some(id(0, 2)), vec![])];
        let messages = messages.into_iter().chain(rest);
        let assembly =
            messages.into_iter().try_fold(assembly, |assembly, message| take(assembly, store, message))?;
        assembly.end(&ended())
    }

    #[test]
    fn contents_come_in_their_order_whatever_comes_between_and_what_comes_twice_is_one_chunk() {
        let mut store = Memory::default();
        let said = [
            data(id(0, 0), 0, b"head "),
            data(id(0, 1), 0, b"body"),
            data(id(0, 0), 1, b"body"),
            read(id(0, 1), file("2.", 4)),
            read(id(0, 0), file("1.", 9)),
        ];
        let assembly = begun(&mut store, [9, 4]);
        let done = take_all(assembly, &mut store, said).unwrap();
        assert_eq!((done.tally.files, done.tally.bytes, done.tally.bytes_sent), (2, 13, 13));
        let root = store.tree(&done.root).unwrap();
        let [first, second] = [&root[0], &root[1]].map(|node| node.content());
        assert_eq!((first.len(), second), (2, &first[1..]));
        assert_eq!([store.length(&first[0]), store.length(&first[1])], [5, 4]);
    }

    #[test]
    fn an_empty_file_and_one_that_goes_away_half_way_are_no_trouble() {
        let mut store = Memory::default();
        let gone = ToBox::FileDone(FileDone { file: id(0, 1), outcome: ReadOutcome::Vanished });
        let said = [read(id(0, 0), file("1.", 0)), data(id(0, 1), 0, b"some"), gone];
        let assembly = begun(&mut store, [0, 9]);
        let done = take_all(assembly, &mut store, said).unwrap();
        assert_eq!((done.tally.files, done.unrest.count), (1, 1));
    }

    #[test]
    fn what_is_missing_comes_twice_or_is_no_chunk_is_refused() {
        let said: [(&str, Vec<ToBox>); 8] = [
            ("missing or comes twice", vec![data(id(0, 0), 1, b"x")]),
            ("missing or comes twice", vec![data(id(0, 0), 0, b"x"), data(id(0, 0), 0, b"x")]),
            ("missing or comes twice", vec![data(id(0, 0), 0, b"x"), data(id(0, 0), 2, b"x")]),
            ("chunk", vec![data(id(0, 0), 0, b"")]),
            ("came with", vec![data(id(0, 0), 0, b"x"), read(id(0, 0), file("1.", 9))]),
            ("not asked for", vec![read(id(0, 1), file("2.", 0)), data(id(0, 1), 0, b"x")]),
            ("not asked for", vec![data(id(0, 2), 0, b"x")]),
            ("without questions", vec![chunks(id(0, 0), 0, &[b"x"])]),
        ];
        for (why, messages) in said {
            let mut store = Memory::default();
            let assembly = begun(&mut store, [9, 0]);
            let error = take_all(assembly, &mut store, messages).unwrap_err();
            assert!(matches!(error, PullError::Protocol(_)), "{error:?}");
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn a_pass_that_asks_takes_nothing_unasked() {
        let mut store = Memory::default();
        let assembly = Assembly::new(Mode::Live, at(1_000), None);
        let assembly = take(assembly, &mut store, listing(0, None, vec![file("1.", 1)])).unwrap();
        let error = take(assembly, &mut store, data(id(0, 0), 0, b"x")).unwrap_err();
        assert!(error.to_string().contains("not asked for"), "{error}");
    }
}
