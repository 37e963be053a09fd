import CSwitchover

/// The line that is drawn again and again while a migration runs.
enum ProgressLine {
  /// The narrowest and the widest bar, columns.
  private static let barWidths = 8...32

  /// The phase, and while disks or memory travel a bar with the figures; at most as wide as the place.
  ///
  /// Where the place is too narrow, the least important figures go first.
  static func text(_ snapshot: MigrationSnapshot, _ style: Style) -> String {
    let name = snapshot.phase.name
    let facts = facts(snapshot, style)
    guard let done = fractionDone(snapshot) else {
      return style.paint(String(name.prefix(max(0, style.width - 1))), .bold)
    }
    let percent = "\(Int(done * 100)) %".rightAligned(to: 5)
    // One column stays free: a full last column would wrap.
    let fixed = name.count + 1 + 2 + percent.count + 1
    var shown = facts.count
    func width(of count: Int) -> Int { facts.prefix(count).reduce(0) { $0 + 2 + $1.count } }
    while shown > 0, fixed + barWidths.lowerBound + width(of: shown) > style.width { shown -= 1 }
    let room = style.width - fixed - width(of: shown)
    let tail = facts.prefix(shown).map { "  " + $0 }.joined()
    guard room >= barWidths.lowerBound else {
      return String("\(name)\(percent)".prefix(max(0, style.width - 1)))
    }
    let bar = bar(done, width: min(room, barWidths.upperBound), style)
    return "\(style.paint(name, .bold)) \(bar)\(percent)\(tail)"
  }

  /// The figures of a transfer, the most important first.
  static func facts(_ snapshot: MigrationSnapshot, _ style: Style) -> [String] {
    if snapshot.isIn(.SWO_PHASE_MIRRORING) { return mirrorFacts(snapshot.disks) }
    let figures = snapshot.figures
    var facts: [String] = []
    if let remaining = figures[.ramRemainingBytes] {
      facts.append("\(Quantity.bytes(remaining)) left")
    }
    if let rate = figures[.rateBytesPerSecond] {
      facts.append(Quantity.rate(bytesPerSecond: rate))
    }
    if let predicted = figures[.predictedBlackoutMicroseconds] {
      facts.append("blackout \(style.about) \(Quantity.span(microseconds: predicted))")
    }
    if let pass = figures[.pass], pass > 0 { facts.append("pass \(pass)") }
    if fractionCopied(snapshot.disks) != nil {
      let left = remaining(snapshot.disks)
      facts.append(left == 0 ? "disks copied" : "disks: \(Quantity.bytes(left)) left")
    }
    return facts
  }

  /// The figures of the mirrors before memory travels, the most important first.
  private static func mirrorFacts(_ disks: [DiskFigures]) -> [String] {
    let left = "\(Quantity.bytes(remaining(disks))) left"
    guard disks.count > 1 else { return [left] }
    return [left, "\(disks.count(where: \.isCopied)) of \(disks.count) disks copied"]
  }

  private static func remaining(_ disks: [DiskFigures]) -> UInt64 {
    disks.reduce(0) { sum, disk in
      let (sum, overflow) = sum.addingReportingOverflow(disk.remainingBytes)
      return overflow ? .max : sum
    }
  }

  /// How much of what travels now is there, 0 to 1: the disks first, then the memory.
  static func fractionDone(_ snapshot: MigrationSnapshot) -> Double? {
    if snapshot.isIn(.SWO_PHASE_MIRRORING) { return fractionCopied(snapshot.disks) }
    return snapshot.isIn(.SWO_PHASE_TRANSFERRING) ? fractionDone(snapshot.figures) : nil
  }

  /// How much of the disks the target has, 0 to 1.
  static func fractionCopied(_ disks: [DiskFigures]) -> Double? {
    let total = disks.reduce(0.0) { $0 + Double($1.totalBytes) }
    guard total > 0 else { return nil }
    return 1 - min(Double(remaining(disks)) / total, 1)
  }

  /// How much of the memory the target has in its newest state, 0 to 1.
  static func fractionDone(_ figures: Figures) -> Double? {
    guard let total = figures[.ramTotalBytes], total > 0,
      let remaining = figures[.ramRemainingBytes]
    else { return nil }
    return 1 - Double(min(remaining, total)) / Double(total)
  }

  /// A bar with its two ends outside the width.
  static func bar(_ fraction: Double, width: Int, _ style: Style) -> String {
    let fraction = fraction.isFinite ? min(max(fraction, 0), 1) : 0
    guard style.hasUnicode else {
      let full = Int(fraction * Double(width))
      return "[" + String(repeating: "#", count: full) + String(repeating: ".", count: width - full)
        + "]"
    }
    let eighths = Int(fraction * Double(width * 8))
    let partial = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
    var cells = String(repeating: "█", count: eighths / 8)
    if eighths / 8 < width { cells += partial[eighths % 8] }
    return "▕" + style.paint(cells.leftAligned(to: width), .cyan) + "▏"
  }
}
