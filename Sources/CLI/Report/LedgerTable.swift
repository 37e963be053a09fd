/// The ledger of the blackout as an aligned table.
enum LedgerTable {
  /// The narrowest and the widest drawing of the parts, columns.
  private static let drawingWidths = 12...40

  /// The lines of the table; none where the ledger is empty.
  static func lines(_ snapshot: MigrationSnapshot, _ style: Style) -> [String] {
    guard !snapshot.ledger.isEmpty else { return [] }
    let rows = rows(snapshot, style)
    let widths = (0..<3).map { column in rows.map { $0.cells[column].count }.max() ?? 0 }
    let used = widths.reduce(0, +) + 2 * 3
    let drawingWidth = min(style.width - used - 1, drawingWidths.upperBound)
    return rows.map { row in
      var line =
        row.cells[0].leftAligned(to: widths[0]) + "  "
        + row.cells[1].rightAligned(to: widths[1]) + "  "
        + row.cells[2].rightAligned(to: widths[2])
      if let remark = row.remark { line += "  " + remark }
      line = row.color.map { style.paint(line, $0) } ?? line
      if let part = row.part, drawingWidth >= drawingWidths.lowerBound {
        let drawing = drawing(part, of: total(snapshot), width: drawingWidth, style)
        if !drawing.isEmpty { line += "  " + drawing }
      }
      return line
    }
  }

  /// The whole blackout in microseconds: the library's figure, or else the end of the last part.
  static func total(_ snapshot: MigrationSnapshot) -> Int64 {
    if let blackout = snapshot.figures[.blackoutMicroseconds] { return Int64(clamping: blackout) }
    return snapshot.ledger.map(\.endMicroseconds).max() ?? 0
  }

  private struct Row {
    var cells: [String]
    var remark: String?
    var part: LedgerPart?
    var color: Style.Color?
  }

  private static func rows(_ snapshot: MigrationSnapshot, _ style: Style) -> [Row] {
    var rows = [Row(cells: ["where the blackout went", "start", "length"], color: .faint)]
    for part in snapshot.ledger {
      let cells = [
        part.name, Quantity.milliseconds(microseconds: part.startMicroseconds),
        Quantity.milliseconds(microseconds: part.lengthMicroseconds),
      ]
      rows.append(Row(cells: cells, part: part))
    }
    let error = snapshot.figures[.blackoutErrorMicroseconds].map {
      "\(style.plusMinus) \(Quantity.milliseconds(microseconds: Int64(clamping: $0)))"
    }
    rows.append(
      Row(
        cells: [
          "source STOP \(style.arrow) target RESUME", "",
          Quantity.milliseconds(microseconds: total(snapshot)),
        ],
        remark: error, color: .bold))
    if let downtime = snapshot.figures[.qemuDowntimeMilliseconds] {
      rows.append(
        Row(cells: ["QEMU's own downtime figure", "", "\(downtime) ms"], color: .faint))
    }
    return rows
  }

  /// The part's place in the blackout.
  private static func drawing(
    _ part: LedgerPart, of total: Int64, width: Int, _ style: Style
  ) -> String {
    guard total > 0 else { return "" }
    func cell(_ microseconds: Int64) -> Double {
      min(max(Double(microseconds) / Double(total), 0), 1) * Double(width)
    }
    let (start, end) = (cell(part.startMicroseconds), cell(part.endMicroseconds))
    let first = min(Int(start), width - 1)
    let blanks = String(repeating: " ", count: first)
    let length = Int(end.rounded()) - first
    guard length >= 1 else { return blanks + style.paint(style.hasUnicode ? "▏" : "|", .cyan) }
    return blanks
      + style.paint(String(repeating: style.hasUnicode ? "█" : "#", count: length), .cyan)
  }
}

extension LedgerPart {
  /// Microseconds after the source's STOP.
  var endMicroseconds: Int64 {
    let (end, overflow) = startMicroseconds.addingReportingOverflow(lengthMicroseconds)
    return overflow ? .max : end
  }
}
