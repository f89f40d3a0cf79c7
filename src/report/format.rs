//! How numbers are spelled: exactly in tables, briefly on the page.

/// Shortest text that reads back as the same number: `0.3`, and `0.30000000000000004` where it is that.
pub fn epsilon(value: f64) -> String {
    match value {
        v if v.is_infinite() => if v > 0.0 { "inf" } else { "-inf" }.into(),
        v => format!("{v}"),
    }
}

/// Six decimals; without the sign of a negative zero.
pub fn probability(value: f64) -> String {
    let text = format!("{value:.6}");
    if text == "-0.000000" { "0.000000".into() } else { text }
}

/// Six significant digits, however small: `0.00123457`, `2.28e-12`.
pub fn exact(value: f64) -> String {
    if value == 0.0 || value.abs() >= 1e-4 {
        return significant(value, 6);
    }
    format!("{:e}", format!("{value:.5e}").parse().unwrap_or(value))
}

pub fn seconds(value: f64) -> String {
    format!("{value:.3}")
}

/// An epsilon for people: `8/255` where it is one, otherwise at most four significant digits.
pub fn short_epsilon(value: f64) -> String {
    let pixels = value * 255.0;
    let whole = pixels.round();
    let short = significant(value, 4);
    let plain = short.parse::<f64>().is_ok_and(|s| (s - value).abs() <= 1e-9 * value.abs());
    if !plain && whole >= 1.0 && (pixels - whole).abs() < 1e-6 {
        return format!("{whole}/255");
    }
    short
}

/// At most `digits` significant digits, without trailing zeros.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value.is_finite() { "0".into() } else { "∞".into() };
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..9).contains(&magnitude) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as i32 - 1 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `97.1 %`, with a narrow space that does not break.
pub fn percent(value: f64) -> String {
    format!("{:.1}\u{202f}%", 100.0 * value)
}

/// `95 %`; as many digits as the value needs.
pub fn percent_tick(value: f64) -> String {
    format!("{}\u{202f}%", significant((100.0 * value * 1e6).round() / 1e6, 4))
}

/// `94.2–98.8`, in percent.
pub fn percent_range(low: f64, high: f64) -> String {
    format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high)
}

/// `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3.4 million` and the like; small numbers in full.
pub fn large(value: u64) -> String {
    let v = value as f64;
    match value {
        0..1_000_000 => grouped(value),
        1_000_000..1_000_000_000 => format!("{} million", significant(v / 1e6, 3)),
        1_000_000_000..1_000_000_000_000 => format!("{} billion", significant(v / 1e9, 3)),
        _ => format!("{} trillion", significant(v / 1e12, 3)),
    }
}

/// `42 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{} s", significant(seconds.max(0.0), 2)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", grouped(whole / 3600), whole % 3600 / 60),
    }
}

/// `linf` as people write it.
pub fn norm(name: &str) -> &str {
    match name {
        "linf" => "L∞",
        "l2" => "L2",
        "l1" => "L1",
        other => other,
    }
}

/// `1 seed`, `3 seeds`.
pub fn counted(n: usize, word: &str) -> String {
    format!("{} {word}{}", grouped(n as u64), if n == 1 { "" } else { "s" })
}

/// At most `width` characters, cut in the middle: both ends of a long value tell configurations apart.
pub fn cut(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return text.to_owned();
    }
    let tail = (width - 1) / 3;
    let head: String = chars[..width - 1 - tail].iter().collect();
    let tail: String = chars[chars.len() - tail..].iter().collect();
    format!("{}…{}", head.trim_end(), tail.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_in_tables() {
        assert_eq!(epsilon(0.3), "0.3");
        assert_eq!(epsilon(0.1 + 0.2), "0.30000000000000004");
        assert_eq!(epsilon(0.0), "0");
        assert_eq!(epsilon(f64::INFINITY), "inf");
        assert_eq!(probability(-0.0), "0.000000");
        assert_eq!(probability(2.0 / 3.0), "0.666667");
    }

    #[test]
    fn brief_on_the_page() {
        assert_eq!(short_epsilon(8.0 / 255.0), "8/255");
        assert_eq!(short_epsilon(0.1 + 0.2), "0.3");
        assert_eq!(short_epsilon(0.2), "0.2");
        assert_eq!(short_epsilon(0.06666666666666667), "17/255");
        assert_eq!(short_epsilon(0.0123456), "0.01235");
        assert_eq!(short_epsilon(0.0), "0");
        assert_eq!(significant(1234.5, 3), "1234");
        assert_eq!(significant(1e-7, 2), "1.0e-7");
        assert_eq!(percent(0.9714), "97.1\u{202f}%");
        assert_eq!(grouped(1234567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(large(3_400_000), "3.4 million");
        assert_eq!(duration(3725.0), "1 h 2 min");
        assert_eq!(duration(4.25), "4.2 s");
        assert_eq!(counted(1, "seed"), "1 seed");
        assert_eq!(cut("abcdefghijkl", 9), "abcdef…kl");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
