//! Lists of people as spreadsheets save them: CSV with a head, separated by commas or semicolons.
//!
//! What is wrong with a line is said about that line and stops no other. Deliberately absent: other encodings than UTF-8; a
//! line that is not says so.

use axum::extract::Request;
use csv::{ByteRecord, ReaderBuilder};

use super::fields;
use crate::{
    ApiError, Ctx,
    request::{self, content_type},
};
use shared::account::{Invitee, Role};

/// Most bytes of a list.
pub const BYTES_MAX: usize = 1024 * 1024;
/// Most people on a list.
const LINES_MAX: usize = 1000;
/// What spreadsheets put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Most characters of an address that are repeated in the report.
const SHOWN_CHARS: usize = 254;

/// One line that is not empty.
pub struct Line {
    /// Its number in the file, the head being 1.
    pub number: usize,
    /// The address as it stands there.
    pub email: String,
    /// Whom it names, or what is wrong with it.
    pub invitee: Result<Invitee, String>,
}

/// Where the columns are.
struct Columns {
    email: usize,
    name: Option<usize>,
    role: usize,
    count: usize,
}

/// Reads the list in the body of a request.
///
/// # Errors
/// When it is no list, too long, or its head is not the one we know.
pub async fn read(request: Request, ctx: &Ctx) -> Result<Vec<Line>, ApiError> {
    if content_type(request.headers()) != "text/csv" {
        return Err(ApiError::not_csv());
    }
    parse(&request::read(request, ctx).await?)
}

fn parse(bytes: &[u8]) -> Result<Vec<Line>, ApiError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let separator = if head.contains(&b';') { b';' } else { b',' };
    let mut reader = ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(bytes);
    let columns = columns(reader.byte_headers().map_err(|_| unreadable("the head"))?)?;
    let (mut lines, mut number, mut counted) = (Vec::new(), 1, 0);
    for record in reader.byte_records() {
        let record = record.map_err(|_| unreadable("a line"))?;
        let begin = begin_of(&record, bytes);
        number += count_lines(bytes.get(counted..begin).unwrap_or_default());
        counted = begin;
        if record.iter().all(|field| field.trim_ascii().is_empty()) {
            continue;
        }
        if lines.len() == LINES_MAX {
            let message = format!("a list has at most {LINES_MAX} lines below its head");
            return Err(ApiError::bad_request("too_many_lines", "body", message));
        }
        lines.push(line(&columns, number, &record));
    }
    Ok(lines)
}

fn unreadable(what: &str) -> ApiError {
    ApiError::bad_request("invalid_csv", "body", format!("{what} of the list cannot be read"))
}

fn columns(head: &ByteRecord) -> Result<Columns, ApiError> {
    let wrong = |message: String| ApiError::bad_request("invalid_csv", "body", message);
    let names: Vec<_> =
        head.iter().map(|field| String::from_utf8_lossy(field).trim().to_ascii_lowercase()).collect();
    let at = |wanted: &str| names.iter().position(|name| name == wanted);
    if let Some(unknown) = names.iter().find(|name| !["email", "name", "role"].contains(&name.as_str())) {
        let shown: String = unknown.chars().take(40).collect();
        return Err(wrong(format!("the head names a column {shown:?}: say email,name,role")));
    }
    match (at("email"), at("role")) {
        (Some(email), Some(role)) => Ok(Columns { email, name: at("name"), role, count: names.len() }),
        _ => Err(wrong("the list begins with a head that names its columns: email,name,role".into())),
    }
}

/// Where a line begins. The reader's own position is before the line ends that it skips.
fn begin_of(record: &ByteRecord, bytes: &[u8]) -> usize {
    let read = record.position().and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
    let rest = bytes.get(read..).unwrap_or_default();
    read + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn line(columns: &Columns, number: usize, record: &ByteRecord) -> Line {
    let field = |at: usize| record.get(at).map(String::from_utf8_lossy).unwrap_or_default();
    let email = field(columns.email);
    Line {
        number,
        email: email.trim().chars().take(SHOWN_CHARS).collect(),
        invitee: invitee(columns, record),
    }
}

fn invitee(columns: &Columns, record: &ByteRecord) -> Result<Invitee, String> {
    if record.len() != columns.count {
        return Err(format!("{} fields where the head has {}", record.len(), columns.count));
    }
    let text = |at: usize| {
        let field = record.get(at).unwrap_or_default();
        std::str::from_utf8(field)
            .map(str::trim)
            .map_err(|_| "not UTF-8: save the list as \"CSV UTF-8\"".to_owned())
    };
    let email =
        text(columns.email)?.parse().map_err(|error: shared::account::InvalidEmail| error.to_string())?;
    let name = match columns.name.map(text).transpose()? {
        None | Some("") => None,
        Some(name) => Some(fields::name("name", name).map_err(|error| error.message().to_owned())?),
    };
    let role = Role::from_word(&text(columns.role)?.to_ascii_lowercase())
        .filter(|role| *role != Role::Owner)
        .ok_or("role is admin, developer or viewer")?;
    Ok(Invitee { email, name, role })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Short = (usize, String, Result<(Option<String>, Role), String>);

    fn read(bytes: &[u8]) -> Vec<Short> {
        let lines = parse(bytes).unwrap();
        let short =
            |line: Line| (line.number, line.email, line.invitee.map(|invitee| (invitee.name, invitee.role)));
        lines.into_iter().map(short).collect()
    }

    fn refused(bytes: &[u8]) -> String {
        parse(bytes).map(|_| ()).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_list_is_read_as_spreadsheets_save_it() {
        let expected = vec![
            (2, "ann@example.com".to_owned(), Ok((Some("Ann; the first".to_owned()), Role::Admin))),
            (4, "bob@example.com".to_owned(), Ok((None, Role::Viewer))),
        ];
        let commas = b"email,name,role\nann@example.com,Ann; the first,admin\n\nbob@example.com,,viewer\n";
        assert_eq!(read(commas), expected);
        let excel = b"\xef\xbb\xbfRole;Email;Name\r\nADMIN;ann@example.com;\"Ann; the first\"\r\n;;\r\nviewer;bob@example.com;\r\n";
        assert_eq!(read(excel), expected);
        assert!(matches!(
            &read(b"email,role\nann@example.com,developer")[..],
            [(2, _, Ok((None, Role::Developer)))]
        ));
        assert_eq!(read(b"email,name,role"), vec![]);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_about_that_line() {
        let lines = read(
            b"email,name,role\nnobody,,viewer\nann@example.com,,owner\nann@example.com,viewer\nb\xff@example.com,,viewer\nann@example.com,Ann,viewer\n",
        );
        let wrong: Vec<_> =
            lines.iter().map(|(_, _, invitee)| invitee.clone().err().unwrap_or_default()).collect();
        assert!(wrong[0].contains("e-mail"), "{wrong:?}");
        assert!(wrong[1].contains("admin, developer or viewer"), "{wrong:?}");
        assert!(wrong[2].contains("2 fields where the head has 3"), "{wrong:?}");
        assert!(wrong[3].contains("UTF-8"), "{wrong:?}");
        assert_eq!(wrong[4], "", "and the rest is good");
        assert_eq!(lines[4].0, 6);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(refused(b"").contains("begins with a head"));
        assert!(refused(b"name,role\n").contains("begins with a head"));
        assert!(refused(b"email,name,role,salary\n").contains("salary"));
        assert!(refused(b"ann@example.com,,viewer\n").contains("ann@example.com"));
        let long = format!("email,role\n{}", "a@example.com,viewer\n".repeat(LINES_MAX + 1));
        assert!(refused(long.as_bytes()).contains("1000"));
    }
}
