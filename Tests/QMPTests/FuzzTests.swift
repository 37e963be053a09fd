import Testing

/// Mutated streams from a fixed seed; the campaign without end is `Tests/Fuzz/run`.
@Suite struct FuzzTests {
  /// Pieces of JSON and QMP that random bytes would take long to find.
  static let tokens = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud83d", "\\ude00", "\r\n", "null",
    "true", "NaN", "-", "0", "1e999", "18446744073709551615", "18446744073709551616",
    "-9223372036854775809", "{\"return\":{},\"id\":1}", "{\"return\":{},\"id\":2}",
    "{\"error\":{},\"id\":3}", "\"id\":4", "\"event\":\"STOP\"", "{\"event\":\"STOP\"}",
    "{\"QMP\":{}}", "é", "😀", "[[[[[[[[", "{\"a\":",
  ].map { Array($0.utf8) }

  @Test(arguments: [1, 2] as [UInt64])
  func mutatedStreamsKeepEveryRule(campaign: UInt64) throws {
    let corpus = try Corpus.names.map { try Corpus.bytes(of: $0) }
    var random = Random(seed: campaign)
    var pieces = 0
    var round = 0
    while pieces < 250_000 {
      round += 1
      let input = Self.mutant(of: corpus, random: &random)
      let seed = random.next()
      do {
        pieces += try SessionDriver.check(input, seed: seed)
        try SessionDriver.checkText(input)
      } catch {
        Issue.record("round \(round), seed \(seed): \(error.text)\n\(input)")
        return
      }
    }
  }

  static func mutant(of corpus: [[UInt8]], random: inout Random) -> [UInt8] {
    var input = corpus[random.below(corpus.count)]
    // Mostly behind the negotiation: before it nearly every change just fails the session.
    let start = random.chance(4) ? 0 : min(input.count, 140)
    for _ in 0..<random.below(5) {
      let position = start + random.below(input.count - start + 1)
      switch random.below(6) {
      case 0 where position < input.count:
        input[position] ^= UInt8(1 << random.below(8))
      case 1:
        input.insert(UInt8(truncatingIfNeeded: random.next()), at: position)
      case 2:
        input.insert(contentsOf: tokens[random.below(tokens.count)], at: position)
      case 3:
        input.removeSubrange(position..<min(input.count, position + random.below(30)))
      case 4:
        let other = corpus[random.below(corpus.count)]
        let from = random.below(other.count + 1)
        input.insert(
          contentsOf: other[from..<min(other.count, from + random.below(200))], at: position)
      default:
        if random.chance(4) { input.removeLast(input.count - position) }
      }
    }
    return input
  }

  @Test(arguments: Corpus.names)
  func theCorpusKeepsEveryRule(_ name: String) throws {
    let input = try Corpus.bytes(of: name)
    for seed in 0..<100 as Range<UInt64> {
      _ = try SessionDriver.check(input, seed: seed)
    }
    try SessionDriver.checkText(input)
  }
}
