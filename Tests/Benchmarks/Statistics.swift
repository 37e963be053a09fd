/// Figures of one way of doing a thing, over all rounds.
struct Series {
  var name: String
  var values: [Double] = []

  var median: Double { quantile(0.5) }

  func quantile(_ part: Double) -> Double {
    guard !values.isEmpty else { return .nan }
    let sorted = values.sorted()
    return sorted[min(Int(Double(sorted.count) * part), sorted.count - 1)]
  }
}

/// What the figures are held against.
struct Goals {
  private(set) var missed = 0

  /// Says whether a figure is small enough.
  mutating func judge(_ what: String, _ value: Double, atMost limit: Double, _ unit: String) {
    let isMet = value <= limit
    if !isMet { missed += 1 }
    print(
      "  " + pad(isMet ? "goal met:" : "GOAL MISSED:", 14)
        + "\(what): \(fixed(value)) \(unit), at most \(fixed(limit))")
  }

  /// Says whether a figure is large enough.
  mutating func judge(_ what: String, _ value: Double, atLeast limit: Double, _ unit: String) {
    let isMet = value >= limit
    if !isMet { missed += 1 }
    print(
      "  " + pad(isMet ? "goal met:" : "GOAL MISSED:", 14)
        + "\(what): \(fixed(value)) \(unit), at least \(fixed(limit))")
  }

  /// The same for a median beside that of its floor in the same run.
  mutating func judge(
    _ what: String, _ series: Series?, beside floor: Series?, atMost limit: Double
  ) {
    judge(what, (series?.median ?? .nan) / (floor?.median ?? .nan), atMost: limit, "× its floor")
  }
}

/// Prints a table of series, each beside the ratio of its median to that of a named one.
func printTable(_ title: String, unit: String, _ rows: [(series: Series, floor: Series?)]) {
  print("\n\(title)")
  print(
    "  " + pad("way", 44) + pad("median", 10) + pad("p10", 10) + pad("p90", 10) + pad("rounds", 8)
      + "ratio to its floor")
  for row in rows {
    let ratio = row.floor.map { "\(fixed(row.series.median / $0.median)) × \($0.name)" } ?? ""
    print(
      "  " + pad(row.series.name, 44) + pad(fixed(row.series.median) + " " + unit, 10)
        + pad(fixed(row.series.quantile(0.1)), 10) + pad(fixed(row.series.quantile(0.9)), 10)
        + pad("\(row.series.values.count)", 8) + ratio)
  }
}

func pad(_ text: String, _ width: Int) -> String {
  text.count >= width ? text + " " : text + String(repeating: " ", count: width - text.count)
}

func fixed(_ value: Double) -> String {
  guard value.isFinite else { return "-" }
  let hundredths = (value * 100).rounded() / 100
  return "\(hundredths)"
}
