//! Weighs the codebooks of a Vorbis stream before a decoder makes room for them.
//!
//! The decoder unpacks each book into a table of up to 16 MB, for which twenty bytes are enough to ask, and takes up to 256
//! books: a forged file of five kilobytes would take four gigabytes. So the books are read here first, bit by bit as the
//! decoder reads them, and what they ask for is added up. Facts from the Vorbis I specification, 3.2.1 and 4.2.4. Deliberately
//! absent: what comes behind the books, which takes next to nothing, and whether the books make sense.

use super::MediaError;

/// Bytes of the identification header, which comes first (4.2.2).
const IDENTIFICATION_BYTES: usize = 30;

/// What the setup header opens with.
const SETUP_MARK: &[u8] = b"\x05vorbis";

/// What each book opens with.
const BOOK_MARK: u32 = 0x56_43_42;

/// Longest setup header; those of real encoders have 3 to 16 kilobytes.
const MAX_SETUP_BYTES: usize = 64 * 1024;

/// Most entries of all books together; real ones have some ten thousand.
const MAX_ENTRIES: u64 = 1 << 17;

/// Most numbers that all books together unpack to, of four bytes each; real ones have some hundred thousand.
const MAX_NUMBERS: u64 = 1 << 22;

/// Checks the headers of a stream, identification and setup one behind the other, as the decoder is given them.
///
/// # Errors
/// [`MediaError::TooLarge`] when the books ask for more than any encoder's, [`MediaError::Undecodable`] when they cannot be read.
pub(super) fn check(headers: &[u8]) -> Result<(), MediaError> {
    let damaged = || MediaError::Undecodable("the vorbis headers are damaged".to_owned());
    let setup = headers.get(IDENTIFICATION_BYTES..).and_then(|rest| rest.strip_prefix(SETUP_MARK));
    let setup = setup.ok_or_else(damaged)?;
    if setup.len() > MAX_SETUP_BYTES {
        return Err(MediaError::TooLarge(format!("its vorbis setup has {} bytes", setup.len())));
    }
    let mut bits = Bits { bytes: setup, at: 0 };
    let books = bits.take(8).ok_or_else(damaged)? + 1;
    let mut sum = Book { entries: 0, numbers: 0 };
    for _ in 0..books {
        let book = bits.book().ok_or_else(damaged)?;
        sum.entries += book.entries;
        sum.numbers += book.numbers;
        if sum.entries > MAX_ENTRIES || sum.numbers > MAX_NUMBERS {
            return Err(MediaError::TooLarge("its vorbis books ask for too much room".to_owned()));
        }
    }
    Ok(())
}

/// What one book asks for.
struct Book {
    entries: u64,
    /// Numbers that its entries stand for, once they are unpacked.
    numbers: u64,
}

/// Bits in the order of Vorbis: of each byte the lowest first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// How many have been read.
    at: usize,
}

impl Bits<'_> {
    /// The next bits as a number, 32 at most; `None` behind the end.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut number = 0;
        for place in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            number |= u32::from((byte >> (self.at % 8)) & 1) << place;
            self.at += 1;
        }
        Some(number)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?)?;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// The next book (3.2.1).
    fn book(&mut self) -> Option<Book> {
        if self.take(24)? != BOOK_MARK {
            return None;
        }
        let dimensions = u16::try_from(self.take(16)?).ok().filter(|dimensions| *dimensions > 0)?;
        let entries = self.take(24)?;
        self.skip_lengths(entries)?;
        let unpacked = u64::from(entries) * u64::from(dimensions);
        let numbers = match self.take(4)? {
            0 => 0,
            kind @ (1 | 2) => {
                // The least number and the step.
                self.skip(64)?;
                let width = self.take(4)? + 1;
                self.skip(1)?;
                let packed = if kind == 1 { lookup_values(entries, dimensions) } else { unpacked };
                self.skip(packed * u64::from(width))?;
                unpacked
            }
            _ => return None,
        };
        Some(Book { entries: entries.into(), numbers })
    }

    /// Passes over the lengths of a book's codewords, which are written in one of three ways.
    fn skip_lengths(&mut self, entries: u32) -> Option<()> {
        let is_ordered = self.take(1)? == 1;
        if is_ordered {
            self.skip(5)?;
            let mut known = 0;
            while known < entries {
                known += self.take(u32::BITS - (entries - known).leading_zeros())?;
            }
            return (known == entries).then_some(());
        }
        let is_sparse = self.take(1)? == 1;
        if !is_sparse {
            return self.skip(5 * u64::from(entries));
        }
        for _ in 0..entries {
            if self.take(1)? == 1 {
                self.skip(5)?;
            }
        }
        Some(())
    }
}

/// How many numbers a book of the first kind is packed into: the greatest whose power by the dimensions is within the entries
/// (9.2.3). Worked out in the decoder's own inexact way, for whoever reads another count of bits reads other books.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "as the decoder does it"
)]
fn lookup_values(entries: u32, dimensions: u16) -> u64 {
    u64::from((entries as f32).powf(1.0 / f32::from(dimensions)).floor() as u32)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Header of a mono stream at 44.1 kHz with blocks of 256 and 2048 samples.
    pub(in crate::media) const IDENTIFICATION: &[u8; IDENTIFICATION_BYTES] =
        b"\x01vorbis\0\0\0\0\x01\x44\xAC\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xB8\x01";

    /// A setup header with nothing but books, each of which has all its codewords of one length.
    pub(in crate::media) fn setup(books: &[(u32, u32, Lookup)]) -> Vec<u8> {
        let mut bits = Vec::new();
        let mut put =
            |number: u64, count: u32| bits.extend((0..count).map(|place| (number >> place) & 1 == 1));
        put(books.len() as u64 - 1, 8);
        for (entries, dimensions, lookup) in books {
            put(BOOK_MARK.into(), 24);
            put((*dimensions).into(), 16);
            put((*entries).into(), 24);
            // Ordered: the shortest length, less one, and how many have it.
            put(1, 1);
            put(u64::from(entries.ilog2()) - 1, 5);
            put((*entries).into(), entries.ilog2() + 1);
            match lookup {
                Lookup::None => put(0, 4),
                Lookup::Lattice(values) => {
                    put(1, 4);
                    put(0, 64);
                    // Numbers of one bit, and whether each adds to the one before.
                    put(0, 4);
                    put(0, 1);
                    put(0, *values);
                }
                Lookup::Each => {
                    put(2, 4);
                    put(0, 64);
                    put(0, 4);
                    put(0, 1);
                    (0..entries * dimensions).for_each(|_| put(1, 1));
                }
            }
        }
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (place, bit)| byte | (u8::from(*bit) << place))
        };
        [SETUP_MARK, &bits.chunks(8).map(byte).collect::<Vec<_>>()].concat()
    }

    /// What the numbers of a book are made from.
    #[derive(Clone, Copy)]
    pub(in crate::media) enum Lookup {
        None,
        /// So many that are combined in every way.
        Lattice(u32),
        /// Each for itself.
        Each,
    }

    fn verdict(books: &[(u32, u32, Lookup)]) -> String {
        let headers = [&IDENTIFICATION[..], &setup(books)].concat();
        check(&headers).map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    const TOO_MUCH: &str = "the file is too large: its vorbis books ask for too much room";

    #[test]
    fn books_are_added_up_however_they_are_packed() {
        // The first book of each pair is the one that must be passed over to the bit.
        for first in [(16, 4, Lookup::None), (16, 4, Lookup::Lattice(2)), (16, 4, Lookup::Each)] {
            assert_eq!(verdict(&[first, (1 << 13, 8, Lookup::Lattice(3))]), "good");
            assert_eq!(verdict(&[first, (1 << 17, 8, Lookup::Lattice(4))]), TOO_MUCH);
            assert_eq!(verdict(&[first, (1 << 16, 8, Lookup::None), (1 << 16, 8, Lookup::None)]), TOO_MUCH);
        }
        assert_eq!(verdict(&[(1 << 17, 32, Lookup::Lattice(1))]), "good");
        assert_eq!(
            verdict(&[(1 << 16, 32, Lookup::Lattice(1)), (1 << 16, 33, Lookup::Lattice(1))]),
            TOO_MUCH
        );
    }

    #[test]
    fn entries_written_one_by_one_are_passed_over() {
        // Of four entries two are used, with codewords of one bit; not ordered, sparse.
        let sparse: [(u32, u32); 9] =
            [(BOOK_MARK, 24), (1, 16), (4, 24), (0, 1), (1, 1), (0b1, 6), (0b1, 6), (0, 2), (0, 4)];
        let dense = [(BOOK_MARK, 24), (1, 16), (2, 24), (0, 1), (0, 1), (0, 5), (0, 5), (0, 4)];
        for parts in [&sparse[..], &dense] {
            let count: u32 = parts.iter().map(|(_, count)| count).sum();
            let mut bytes = vec![0; (count as usize).div_ceil(8)];
            let mut at = 0;
            for (number, count) in parts {
                for place in 0..*count {
                    bytes[at / 8] |= u8::from((number >> place) & 1 == 1) << (at % 8);
                    at += 1;
                }
            }
            let mut bits = Bits { bytes: &bytes, at: 0 };
            assert!(bits.book().is_some_and(|book| book.numbers == 0));
            assert_eq!(bits.at, at, "to the last bit");
        }
    }

    #[test]
    fn headers_that_are_cut_or_too_long_are_refused() {
        let whole = [&IDENTIFICATION[..], &setup(&[(16, 4, Lookup::Each)])].concat();
        for length in 0..whole.len() {
            assert!(matches!(check(&whole[..length]), Err(MediaError::Undecodable(_))), "{length}");
        }
        assert!(check(&whole).is_ok());
        let long = [&whole[..], &vec![0; MAX_SETUP_BYTES]].concat();
        assert!(matches!(check(&long), Err(MediaError::TooLarge(_))));
    }
}
