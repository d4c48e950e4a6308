//! Packets are the lines of git's protocols: four hexadecimal digits of length, then that much; `0000` ends a section.

use std::io::{self, Read, Write};

/// The longest line, by git's own rule.
const LONGEST: usize = 65_520;

/// Reads a line, without the line feed that may end it; `None` at the end of a section.
///
/// # Errors
/// Where what comes is no packet, or ends within one.
pub fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut digits = [0; 4];
    from.read_exact(&mut digits)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "this is no packet of git's");
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad());
    }
    let length = std::str::from_utf8(&digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match length.ok_or_else(bad)? {
        0 => Ok(None),
        length if (4..=LONGEST).contains(&length) => {
            let mut line = vec![0; length - 4];
            from.read_exact(&mut line)?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            Ok(Some(line))
        }
        _ => Err(bad()),
    }
}

/// Every line of a section, as text.
///
/// # Errors
/// As [`read`].
pub fn read_section(from: &mut impl Read) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    while let Some(line) = read(from)? {
        lines.push(String::from_utf8_lossy(&line).into_owned());
    }
    Ok(lines)
}

/// Writes lines, and the end of the section.
///
/// # Errors
/// Where a line is too long, or nobody reads.
pub fn write_section(to: &mut impl Write, lines: &[String]) -> io::Result<()> {
    for line in lines {
        let length = line.len() + 4;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the line is too long for a packet"));
        }
        write!(to, "{length:04x}{line}")?;
    }
    to.write_all(b"0000")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        write_section(&mut bytes, &["version=1\0push-options".to_owned(), String::new()]).unwrap();
        assert_eq!(bytes, b"001aversion=1\0push-options00040000");
        let mut from = &bytes[..];
        assert_eq!(read_section(&mut from).unwrap(), ["version=1\0push-options", ""]);
        assert_eq!(read(&mut &b"0008abc\n"[..]).unwrap().unwrap(), b"abc");
        for bad in [&b""[..], b"00", b"zzzz", b"0001", b"0003", b"ffff", b"0010short", b"+004"] {
            assert!(read(&mut &bad[..]).is_err(), "{bad:?}");
        }
    }
}
