import Simulation

/// What was counted, by name; several processes' counts add up.
struct Tally {
  private var counts: [String: Int] = [:]

  subscript(name: String) -> Int { counts[name, default: 0] }

  /// Names that begin with a word, without it, the most frequent first.
  func names(of word: String) -> [String] {
    counts.keys.filter { $0.hasPrefix(word) }
      .sorted { (-self[$0], $0) < (-self[$1], $1) }
      .map { String($0.dropFirst(word.count)) }
  }

  mutating func add(_ name: String, _ count: Int = 1) { counts[name, default: 0] += count }

  mutating func add(_ other: Tally) {
    for (name, count) in other.counts { add(name, count) }
  }

  // MARK: - As text

  var text: String { counts.map { "\($0.value) \($0.key)\n" }.joined() }

  init() {}

  init(text: String) {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 1)
      guard parts.count == 2, let count = Int(parts[0]) else { continue }
      add(String(parts[1]), count)
    }
  }

  // MARK: - What is counted

  static let worlds = "worlds"
  static let broken = "broken"
  static let milliseconds = "milliseconds"

  mutating func add(_ report: RunReport) {
    add(Self.worlds)
    add("happenings", report.happenings)
    add("simulated seconds", Int(report.duration.milliseconds / 1000))
    add("ambiguous pauses", report.ambiguousPauses)
    for kind in report.struck { add("fault \(kind.rawValue)") }
    for rule in report.recoveryRules { add("rule \(rule)") }
    for (row, times) in report.transitions.enumerated() where times > 0 { add("row \(row)", times) }
    let end = report.conclusion.map { "\($0.end), owner \($0.owner), guest \($0.guest)" }
    add("end \(end ?? "no end")")
  }
}
