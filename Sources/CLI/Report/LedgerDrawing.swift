/// The ledger of the blackout as an SVG timeline.
struct LedgerDrawing {
  private static let width = 960
  private static let left = 250
  private static let right = 110
  private static let rowHeight = 34
  private static let top = 84
  private static let colors = ["#2563eb", "#d97706", "#7c3aed", "#059669", "#db2777", "#0891b2"]

  /// The text of the file; a migration without a blackout gives a drawing that says so.
  static func text(_ snapshot: MigrationSnapshot, title: String) -> String {
    let total = LedgerTable.total(snapshot)
    let rows = snapshot.ledger.count
    let height = top + max(rows, 1) * rowHeight + 56
    var lines = [
      #"<?xml version="1.0" encoding="UTF-8"?>"#,
      #"<svg xmlns="http://www.w3.org/2000/svg" width="\#(width)" height="\#(height)""#
        + #" viewBox="0 0 \#(width) \#(height)" font-family="sans-serif" font-size="14">"#,
      #"<title>\#(escaped(title))</title>"#,
      #"<rect width="\#(width)" height="\#(height)" fill="white"/>"#,
      label(24, 34, title, size: 18, weight: "bold"),
      label(24, 58, subtitle(snapshot), fill: "dimgray"),
    ]
    if rows == 0 || total <= 0 {
      lines.append(label(24, top + 24, "No blackout was measured."))
    } else {
      lines += grid(total, rows: rows)
      for (index, part) in snapshot.ledger.enumerated() {
        lines += row(part, index: index, total: total)
      }
    }
    return (lines + ["</svg>"]).joined(separator: "\n") + "\n"
  }

  private static func subtitle(_ snapshot: MigrationSnapshot) -> String {
    var text =
      "source STOP to target RESUME: "
      + Quantity.milliseconds(microseconds: LedgerTable.total(snapshot))
    if let error = snapshot.figures[.blackoutErrorMicroseconds] {
      text += " ± \(Quantity.milliseconds(microseconds: Int64(clamping: error)))"
    }
    if let downtime = snapshot.figures[.qemuDowntimeMilliseconds] {
      text += "; QEMU's own downtime figure: \(downtime) ms"
    }
    return text
  }

  private static func row(_ part: LedgerPart, index: Int, total: Int64) -> [String] {
    let y = top + index * rowHeight
    let start = place(part.startMicroseconds, total)
    // A part too short to be seen is drawn one unit wide.
    let length = max(place(part.endMicroseconds, total) - start, 1)
    let color = colors[index % colors.count]
    return [
      label(left - 12, y + 20, part.name, anchor: "end"),
      #"<rect x="\#(Quantity.fixed(start, decimals: 2))" y="\#(y + 4)""#
        + #" width="\#(Quantity.fixed(length, decimals: 2))" height="\#(rowHeight - 10)""#
        + #" rx="2" fill="\#(color)"/>"#,
      label(
        width - 16, y + 20, Quantity.milliseconds(microseconds: part.lengthMicroseconds),
        anchor: "end"),
    ]
  }

  /// Vertical lines at round milliseconds, with their numbers below.
  private static func grid(_ total: Int64, rows: Int) -> [String] {
    let step = gridStep(total)
    let bottom = top + rows * rowHeight
    var lines: [String] = []
    for number in 0...max(total / step, 0) {
      let at = number * step
      let x = Quantity.fixed(place(at, total), decimals: 2)
      lines.append(
        #"<line x1="\#(x)" y1="\#(top - 6)" x2="\#(x)" y2="\#(bottom + 6)" stroke="lightgray"/>"#)
      lines.append(
        #"<text x="\#(x)" y="\#(bottom + 24)" fill="dimgray" text-anchor="middle">"#
          + "\(Quantity.fixed(Double(at) / 1000, decimals: step < 1000 ? 1 : 0)) ms</text>")
    }
    return lines
  }

  /// Microseconds between two lines: 1, 2 or 5 times a power of ten, for at most ten lines.
  static func gridStep(_ total: Int64) -> Int64 {
    var power: Int64 = 100
    while power < 100_000_000_000_000 {
      for factor: Int64 in [1, 2, 5] where total / (power * factor) <= 9 { return power * factor }
      power *= 10
    }
    return max(total / 9, 1)
  }

  private static func place(_ microseconds: Int64, _ total: Int64) -> Double {
    let fraction = min(max(Double(microseconds) / Double(total), 0), 1)
    return Double(left) + fraction * Double(width - left - right)
  }

  private static func label(
    _ x: Int, _ y: Int, _ text: String, anchor: String = "start", size: Int = 14,
    weight: String = "normal", fill: String = "black"
  ) -> String {
    #"<text x="\#(x)" y="\#(y)" text-anchor="\#(anchor)" font-size="\#(size)""#
      + #" font-weight="\#(weight)" fill="\#(fill)">\#(escaped(text))</text>"#
  }

  /// Text for XML; what XML cannot hold is left out.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\t", "\n": result += " "
      case _ where scalar.value < 0x20 || scalar.value == 0xfffe || scalar.value == 0xffff: break
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
