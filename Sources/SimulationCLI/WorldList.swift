import Glibc
import Simulation

/// The worlds that a file names: what once broke a rule is tried for ever.
struct WorldList {
  private let path: String
  private let keepsGoing: Bool

  init(path: String, keepsGoing: Bool) {
    self.path = path
    self.keepsGoing = keepsGoing
  }

  /// Answers whether every rule held.
  func run() throws(Options.Problem) -> Bool {
    var worlds = 0
    var broken = 0
    for line in try lines() {
      let report = try world(line).run()
      worlds += 1
      for violation in report.violations {
        broken += 1
        print("\(line): \(violation.rule.rawValue): \(violation.text)")
      }
      if broken > 0 && !keepsGoing { break }
    }
    print("\(path): \(worlds) worlds; \(broken) violations")
    guard worlds > 0 else { throw Options.Problem(text: "'\(path)' names no world") }
    return broken == 0
  }

  private func lines() throws(Options.Problem) -> [String] {
    guard let file = fopen(path, "re") else {
      throw Options.Problem(text: "'\(path)' cannot be read")
    }
    defer { fclose(file) }
    var lines: [String] = []
    var buffer = [CChar](repeating: 0, count: 512)
    while fgets(&buffer, Int32(buffer.count), file) != nil {
      let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      let text = String(decoding: bytes, as: UTF8.self)
      let line = (text.split(separator: "#", omittingEmptySubsequences: false).first ?? "")
        .split(whereSeparator: \.isWhitespace).joined(separator: " ")
      if !line.isEmpty { lines.append(line) }
    }
    return lines
  }

  private func world(_ line: String) throws(Options.Problem) -> World {
    let words = line.split(separator: " ").map(String.init)
    if words.count == 2, words[0] == "seed" {
      let seed = try Options.number(words[1], after: "seed")
      return World(Scenario(seed: seed), seed: seed)
    }
    guard words.count == 4, words[0] == "order", words[2] == "faults" else {
      throw Options.Problem(text: "'\(line)' is no world")
    }
    let order = Order.all[Int(try Options.order(words[1]))]
    return Exploration(order).world(try Options.faults(words[3]))
  }
}
