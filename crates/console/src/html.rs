//! HTML that cannot carry what somebody else wrote: what is put into it by [`html!`] is escaped, unless it is
//! [`Html`] itself.
//!
//! A format string is a constant of the program, and its places are filled by arguments only: `{name}` without an
//! argument of that name does not compile, so nothing gets past the escaping.

use std::fmt::{self, Display, Formatter, Write};

/// A piece of HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl Html {
    /// What [`html!`] has put together.
    pub(crate) fn of(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// Adds a piece behind this one.
    pub(crate) fn push(&mut self, piece: &Html) {
        self.0.push_str(&piece.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<T: IntoIterator<Item = Html>>(pieces: T) -> Self {
        let mut all = Html::default();
        for piece in pieces {
            all.push(&piece);
        }
        all
    }
}

/// What can be put into HTML.
pub(crate) trait Show {
    /// Writes it, so that it means itself between tags and in quoted attributes.
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result;
}

impl Show for Html {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Show for str {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

impl Show for String {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.as_str().show(f)
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |shown| shown.show(f))
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        (*self).show(f)
    }
}

macro_rules! plain {
    ($($number:ty),*) => {
        $(impl Show for $number {
            fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
                Display::fmt(self, f)
            }
        })*
    };
}
plain!(u32, u64, i64, usize);

/// An argument of [`html!`].
pub(crate) struct Shown<'a, T: ?Sized>(pub(crate) &'a T);

impl<T: Show + ?Sized> Display for Shown<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// Like `format!`, with every argument escaped. `concat!` keeps the format string from capturing variables.
macro_rules! html {
    ($format:literal $(, $name:ident = $argument:expr)+ $(,)?) => {
        $crate::html::Html::of(format!(concat!($format, ""), $($name = $crate::html::Shown(&$argument)),+))
    };
    ($format:literal $(, $argument:expr)* $(,)?) => {
        $crate::html::Html::of(format!(concat!($format, "") $(, $crate::html::Shown(&$argument))*))
    };
}
pub(crate) use html;

#[cfg(test)]
mod tests {
    #[test]
    fn what_others_wrote_stays_text() {
        let evil = "<script>alert('1')</script>\" onload=\"x&";
        let shown = html!(
            "<p title=\"{}\">{}</p>",
            evil,
            html!("<b>{n}</b>", n = 3_u64)
        );
        assert_eq!(
            shown.into_string(),
            "<p title=\"&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=&quot;x&amp;\"><b>3</b></p>"
        );
    }
}
