/// Numbers as people read them.
enum Quantity {
  /// Bytes in binary units with three digits, such as "70.1 MiB".
  static func bytes(_ count: UInt64) -> String {
    guard count >= 1024 else { return "\(count) B" }
    var value = Double(count)
    var unit = "B"
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] where value >= 1023.95 || unit == "B" {
      value /= 1024
      unit = larger
    }
    return "\(fixed(value, decimals: value < 99.95 ? 1 : 0)) \(unit)"
  }

  static func rate(bytesPerSecond: UInt64) -> String {
    bytes(bytesPerSecond) + "/s"
  }

  /// Exact to the microsecond, such as "3.214 ms": for columns.
  static func milliseconds(microseconds: Int64) -> String {
    let magnitude = microseconds.magnitude
    let fraction = String(magnitude % 1000)
    let sign = microseconds < 0 ? "-" : ""
    return "\(sign)\(magnitude / 1000).\(String(repeating: "0", count: 3 - fraction.count))"
      + "\(fraction) ms"
  }

  /// Rounded for reading along, such as "14 ms", "2.3 s" or "3 min 20 s".
  static func span(microseconds: UInt64) -> String {
    let milliseconds = Double(microseconds) / 1000
    switch milliseconds {
    case ..<9.95: return fixed(milliseconds, decimals: 1) + " ms"
    case ..<999.5: return fixed(milliseconds, decimals: 0) + " ms"
    case ..<59_950: return fixed(milliseconds / 1000, decimals: 1) + " s"
    default:
      let seconds = microseconds / 1_000_000 + (microseconds % 1_000_000 < 500_000 ? 0 : 1)
      return "\(grouped(seconds / 60)) min \(seconds % 60) s"
    }
  }

  /// A whole number in groups of three, such as "3,412".
  static func grouped(_ number: UInt64) -> String {
    var result = ""
    for (place, digit) in String(number).reversed().enumerated() {
      if place > 0, place % 3 == 0 { result.append(",") }
      result.append(digit)
    }
    return String(result.reversed())
  }

  /// A number with so many decimals, rounded; numbers beyond 10^15 are cut to that.
  static func fixed(_ value: Double, decimals: Int) -> String {
    guard value.isFinite else { return "?" }
    let scale = (0..<decimals).reduce(1.0) { result, _ in result * 10 }
    let scaled = UInt64((min(abs(value), 1e15 / scale) * scale).rounded())
    let digits = String(scaled)
    let padded = String(repeating: "0", count: max(0, decimals + 1 - digits.count)) + digits
    let sign = value < 0 && scaled > 0 ? "-" : ""
    guard decimals > 0 else { return sign + padded }
    return "\(sign)\(padded.dropLast(decimals)).\(padded.suffix(decimals))"
  }
}

extension String {
  /// The text with blanks before it, up to a width.
  func rightAligned(to width: Int) -> String {
    String(repeating: " ", count: Swift.max(0, width - count)) + self
  }

  /// The text with blanks after it, up to a width.
  func leftAligned(to width: Int) -> String {
    self + String(repeating: " ", count: Swift.max(0, width - count))
  }
}
