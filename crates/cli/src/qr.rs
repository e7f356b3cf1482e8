//! QR codes for terminals.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The text as a QR code of half-block characters; empty if it is too long for one.
pub(crate) fn render(text: &str) -> String {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else {
        return String::new();
    };
    // Dark terminals are the rule: what is dark in the code is left black, and what is light is drawn, which the crate calls dark.
    code.render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build()
}

#[cfg(test)]
mod tests {
    use qrcode::{Color, EcLevel, QrCode};

    use super::render;

    /// Modules of light that scanners want around a code (ISO/IEC 18004).
    const QUIET: usize = 4;

    #[test]
    fn a_terminal_with_a_dark_ground_shows_the_code_with_light_around_it() {
        let link = "https://meet.example.org/receive#4821.7HjDlsMOrkIdLCpkFnmgWg";
        let code = QrCode::with_error_correction_level(link, EcLevel::L).unwrap();
        let (width, modules) = (code.width(), code.to_colors());
        let is_light = |x: usize, y: usize| {
            let inside = (x.checked_sub(QUIET), y.checked_sub(QUIET));
            match inside {
                (Some(x), Some(y)) if x < width && y < width => {
                    modules[y * width + x] == Color::Light
                }
                _ => true,
            }
        };
        let text = render(link);
        let size = width + 2 * QUIET;
        assert_eq!(text.lines().count(), size.div_ceil(2));
        for (row, line) in text.lines().enumerate() {
            assert_eq!(line.chars().count(), size);
            for (x, both) in line.chars().enumerate() {
                let halves = [both == '█' || both == '▀', both == '█' || both == '▄'];
                for (half, lit) in halves.into_iter().enumerate() {
                    let y = 2 * row + half;
                    assert!(y >= size || lit == is_light(x, y), "{x}, {y}");
                }
            }
        }
        assert_eq!(render(&"x".repeat(8000)), "");
    }
}
