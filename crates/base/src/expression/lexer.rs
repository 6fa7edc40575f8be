//! The words of a CEL expression.

/// A word, and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub token: Token,
    /// In bytes from the beginning.
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    /// 9223372036854775808, which only a minus sign makes an integer.
    LeastInt,
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer signs first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "-", "+", "*", "/", "%", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "\0",
];

/// Splits an expression into words; the last one is [`Token::End`].
pub(super) fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut lexer = Lexer { text, at: 0 };
    let mut words = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token().map_err(|reason| format!("at position {at}: {reason}"))?;
        let end = token == Token::End;
        words.push(Word { token, at });
        if end {
            return Ok(words);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']).len();
            let comment = if rest[blank..].starts_with("//") {
                rest[blank..].find('\n').unwrap_or(rest.len() - blank)
            } else {
                0
            };
            self.at += blank + comment;
            if comment == 0 {
                return;
            }
        }
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn token(&mut self) -> Result<Token, String> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some(text) = self.text_literal()? {
            return Ok(text);
        }
        if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Name(self.take(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()));
        }
        let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign) && **sign != "\0") else {
            return Err(format!("{first:?} means nothing here"));
        };
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }

    fn number(&mut self) -> Result<Token, String> {
        let rest = self.rest();
        if rest.starts_with("0x") || rest.starts_with("0X") {
            self.at += 2;
            let digits = self.take(|c| c.is_ascii_hexdigit());
            return self.integer(u64::from_str_radix(digits, 16).ok());
        }
        let from = self.at;
        self.take(|c| c.is_ascii_digit());
        let mut double = false;
        let mut chars = self.rest().chars();
        if chars.next() == Some('.') && chars.next().is_some_and(|c| c.is_ascii_digit()) {
            double = true;
            self.at += 1;
            self.take(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            double = true;
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            self.take(|c| c.is_ascii_digit());
        }
        let digits = &self.text[from..self.at];
        if double {
            let number = digits.parse::<f64>().ok().filter(|number| number.is_finite());
            return number
                .map(Token::Double)
                .ok_or_else(|| "the number is malformed or too large".to_owned());
        }
        self.integer(digits.parse().ok())
    }

    fn integer(&mut self, number: Option<u64>) -> Result<Token, String> {
        let number = number.ok_or("the number is malformed or too large")?;
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Ok(Token::Uint(number));
        }
        match i64::try_from(number) {
            Ok(number) => Ok(Token::Int(number)),
            Err(_) if number == i64::MIN.unsigned_abs() => Ok(Token::LeastInt),
            Err(_) => Err("the number is too large".to_owned()),
        }
    }

    /// A text, `None` where none begins: `'a'`, `"a"`, three of either, with `r` for raw and `b` for bytes before it.
    fn text_literal(&mut self) -> Result<Option<Token>, String> {
        let rest = self.rest();
        let prefix = rest.len() - rest.trim_start_matches(['r', 'R', 'b', 'B']).len();
        let (marks, body) = rest.split_at(prefix.min(2));
        let Some(quote) = body.chars().next().filter(|c| matches!(c, '\'' | '"')) else { return Ok(None) };
        let (raw, bytes) = (marks.contains(['r', 'R']), marks.contains(['b', 'B']));
        if marks.len() == 2 && !(raw && bytes) {
            return Ok(None);
        }
        let three = quote.to_string().repeat(3);
        let close = if body.starts_with(&three) { three } else { quote.to_string() };
        self.at += marks.len() + close.len();
        let mut out = Vec::new();
        loop {
            if self.rest().starts_with(&close) {
                self.at += close.len();
                break;
            }
            let Some(next) = self.rest().chars().next() else { return Err("the text has no end".to_owned()) };
            if next == '\n' && close.len() == 1 {
                return Err("the text has no end in its line".to_owned());
            }
            self.at += next.len_utf8();
            if next == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                out.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if bytes {
            return Ok(Some(Token::Bytes(out)));
        }
        // Everything that was put in is UTF-8.
        Ok(Some(Token::String(String::from_utf8_lossy(&out).into_owned())))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let Some(kind) = self.rest().chars().next() else { return Err("the text has no end".to_owned()) };
        let simple = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '?' | '"' | '\'' | '`' => Some(kind as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            self.at += 1;
            out.push(byte);
            return Ok(());
        }
        let (skip, digits, radix) = match kind {
            'x' | 'X' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='3' => (0, 3, 8),
            _ => return Err(format!("\\{kind} is no escape")),
        };
        let number =
            self.rest().get(skip..skip + digits).filter(|text| text.bytes().all(|it| it.is_ascii_hexdigit()));
        let number = number.and_then(|text| u32::from_str_radix(text, radix).ok());
        let number = number.ok_or("the escape is too short")?;
        self.at += skip + digits;
        if bytes && radix == 16 && digits > 2 {
            return Err("bytes have no \\u escapes".to_owned());
        }
        match (bytes, char::from_u32(number)) {
            (true, _) => out.push(number as u8),
            (false, Some(c)) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            (false, None) => return Err("the escape is no character".to_owned()),
        }
        Ok(())
    }
}
