//! How the pages look to the people of a tenant.

/// Longest name, in letters: it stands in a header beside a picture.
pub const PRODUCT_NAME_CHARS_MAX: usize = 40;
/// Largest logo, in bytes: it is loaded before anybody can sign in.
pub const LOGO_BYTES_MAX: usize = 64 * 1024;
/// Largest width and height of a logo, pixels: it is shown 32 pixels high, on dense screens too.
pub const LOGO_PIXELS_MAX: u32 = 1_024;
/// What text needs against what it stands on (WCAG 2.2, 1.4.3), in hundredths.
const CONTRAST_PERCENT_MIN: u32 = 450;
/// What is behind the accent on a dark page.
const DARK_PAGE: [u8; 3] = [0x10, 0x14, 0x1a];
const WHITE: [u8; 3] = [0xff; 3];

/// What was chosen; empty: Vidi's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branding {
    /// In place of "Vidi".
    pub product_name: String,
    /// `#rrggbb`, on a light page.
    pub accent: String,
    /// `#rrggbb`, on a dark page.
    pub accent_dark: String,
    /// A PNG.
    pub logo: Vec<u8>,
}

impl Branding {
    /// Refuses what no branding may be: answers the field of the API and what is expected of it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let name = &self.product_name;
        if PRODUCT_NAME_CHARS_MAX < name.chars().count() || name.chars().any(char::is_control) {
            return Err(("product_name", "at most 40 letters are expected"));
        }
        if !self.accent.is_empty() {
            let rule = "#rrggbb is expected, dark enough for white text on it (4.5:1)";
            let colour = colour(&self.accent).ok_or(("accent", rule))?;
            readable(colour, WHITE).ok_or(("accent", rule))?;
        }
        if !self.accent_dark.is_empty() {
            let rule = "#rrggbb is expected, light enough for a dark page (4.5:1 against #10141a)";
            let colour = colour(&self.accent_dark).ok_or(("accent_dark", rule))?;
            readable(colour, DARK_PAGE).ok_or(("accent_dark", rule))?;
        }
        if self.logo.is_empty() || is_small_png(&self.logo) {
            return Ok(());
        }
        Err(("logo", "a PNG of at most 64 KiB and 1,024 x 1,024 pixels is expected"))
    }
}

fn colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = u32::from_str_radix(digits, 16).ok().filter(|_| lower)?;
    let [_, red, green, blue] = number.to_be_bytes();
    Some([red, green, blue])
}

/// Some where one colour can be read on the other.
fn readable(one: [u8; 3], other: [u8; 3]) -> Option<()> {
    let (one, other) = (luminance(one), luminance(other));
    let (light, dark) = if other < one { (one, other) } else { (other, one) };
    let needed = f64::from(CONTRAST_PERCENT_MIN) / 100.0;
    (needed <= (light + 0.05) / (dark + 0.05)).then_some(())
}

/// Relative luminance (WCAG 2.2).
fn luminance(colour: [u8; 3]) -> f64 {
    let linear = colour.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    let [red, green, blue] = linear;
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// Whether bytes begin as a PNG of an allowed size does (PNG, sections 5.2 and 11.2.2); a browser says
/// whether the rest is good.
fn is_small_png(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";
    let Some(header) = bytes.strip_prefix(BEGINNING) else { return false };
    let side = |at: usize| {
        let side = header.get(at..at + 4).and_then(|side| side.try_into().ok());
        side.map_or(0, u32::from_be_bytes)
    };
    let allowed = 1..=LOGO_PIXELS_MAX;
    bytes.len() <= LOGO_BYTES_MAX && allowed.contains(&side(0)) && allowed.contains(&side(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(branding: &Branding) -> Option<&'static str> {
        branding.check().err().map(|(field, _)| field)
    }

    #[test]
    fn colours_must_be_read_and_logos_be_small_pictures() {
        let none = Branding::default();
        assert_eq!(wrong(&none), None);
        for (accent, expected) in [
            ("#1f5fbf", None),
            ("#8ab6f9", Some("accent")),
            ("1f5fbf", Some("accent")),
            ("#1F5FBF", Some("accent")),
        ] {
            assert_eq!(wrong(&Branding { accent: accent.to_owned(), ..none.clone() }), expected);
        }
        for (dark, expected) in [("#8ab6f9", None), ("#1f3f7f", Some("accent_dark"))] {
            assert_eq!(wrong(&Branding { accent_dark: dark.to_owned(), ..none.clone() }), expected);
        }
        let png = |width: u32, height: u32, more: usize| {
            let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
            bytes.extend(width.to_be_bytes().into_iter().chain(height.to_be_bytes()));
            bytes.resize(bytes.len() + more, 0);
            Branding { logo: bytes, ..Branding::default() }
        };
        assert_eq!(wrong(&png(64, 32, 9)), None);
        for large in [png(0, 32, 9), png(1_025, 32, 9), png(64, 32, LOGO_BYTES_MAX)] {
            assert_eq!(wrong(&large), Some("logo"));
        }
        let svg = Branding { logo: b"<svg/>".to_vec(), ..none.clone() };
        assert_eq!(wrong(&svg), Some("logo"));
        let long = Branding { product_name: "x".repeat(41), ..none };
        assert_eq!(wrong(&long), Some("product_name"));
    }
}
