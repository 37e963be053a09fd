/// What the place can show that text is written to.
struct Style: Equatable {
  /// Columns.
  var width = 80
  /// Block and line characters, not only ASCII.
  var hasUnicode = true
  var hasColor = false
  /// Whether a line can be drawn again in place.
  var isTerminal = false

  enum Color: String {
    case bold = "1"
    case faint = "2"
    case red = "31"
    case green = "32"
    case yellow = "33"
    case cyan = "36"
  }

  func paint(_ text: String, _ color: Color) -> String {
    hasColor && !text.isEmpty ? "\u{1b}[\(color.rawValue)m\(text)\u{1b}[0m" : text
  }

  var tick: String { hasUnicode ? "✓" : "ok:" }
  var cross: String { hasUnicode ? "✗" : "no:" }
  var arrow: String { hasUnicode ? "→" : "->" }
  var about: String { hasUnicode ? "≈" : "~" }
  var plusMinus: String { hasUnicode ? "±" : "+-" }
}
