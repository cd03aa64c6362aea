//! Just enough of Rust's grammar: what is code, and where names and functions are in it.

/// The source with comments, strings and character literals blanked out, line by line as long as before.
pub fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => find(&chars, at, |at| chars[at] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => text_end(&chars, at, '"'),
            'r' if !in_name(&chars, at) => raw_text_end(&chars, at),
            '\'' if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => text_end(&chars, at, '\''),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&char| if char == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn find(chars: &[char], from: usize, wanted: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|&at| wanted(at)).unwrap_or(chars.len())
}

fn in_name(chars: &[char], at: usize) -> bool {
    at > 0 && (is_name(chars[at - 1]) && chars[at - 1] != 'b')
}

fn comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn text_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `r"…"` or `r#"…"#`, or `start` if no such text begins there.
fn raw_text_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|&&char| char == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    (find(chars, start + 2 + hashes, closes) + 1 + hashes).min(chars.len())
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The line, counted from 1, that a byte of the source is in.
pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Where `name` stands as a whole name, and not inside a path.
pub fn names<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(name).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(|char| is_name(char) || char == ':') && !after.is_some_and(is_name)
    })
}

/// The names that follow a path prefix such as `crate::`, each with its place: one, or those of a group in braces.
pub fn imported<'a>(code: &'a str, prefix: &'a str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let starts = code.match_indices(prefix).map(|(at, _)| at);
    for start in starts.filter(|&at| !code[..at].ends_with(|char| is_name(char) || char == ':')) {
        let mut at = start + prefix.len();
        let mut depth = 0;
        loop {
            if let Some(name) = name_at(code, at) {
                found.push((at, name));
                at += name.len();
            }
            // On to the next item of the group, over what is nested deeper.
            let next = code[at..].char_indices().find(|&(_, char)| {
                depth += i32::from(char == '{') - i32::from(char == '}');
                depth <= 0 || depth == 1 && matches!(char, '{' | ',')
            });
            match next {
                Some((skipped, _)) if depth == 1 => at += skipped + 1,
                _ => break,
            }
            at += code[at..].len() - code[at..].trim_start().len();
        }
    }
    found
}

fn name_at(code: &str, at: usize) -> Option<&str> {
    let rest = &code[at..];
    let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// Each function with a body: its name, the line it begins in, how many lines it has.
pub fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    for start in names(code, "fn") {
        let Some(name) = code[start..].strip_prefix("fn ").and_then(|_| name_at(code, start + 3)) else { continue };
        if let Some(end) = body_end(code, start) {
            let first = line_of(code, start);
            found.push((name, first, line_of(code, end) + 1 - first));
        }
    }
    found
}

/// Where the body of the function that begins at `start` closes; none if it has no body.
fn body_end(code: &str, start: usize) -> Option<usize> {
    let mut nested = 0;
    let mut braces = 0;
    for (at, char) in code[start..].char_indices() {
        match char {
            '(' | '[' if braces == 0 => nested += 1,
            ')' | ']' if braces == 0 => nested -= 1,
            ';' if braces == 0 && nested == 0 => return None,
            '{' if nested == 0 => braces += 1,
            '}' if nested == 0 => {
                braces -= 1;
                if braces == 0 {
                    return Some(start + at);
                }
            }
            _ => {}
        }
    }
    None
}
