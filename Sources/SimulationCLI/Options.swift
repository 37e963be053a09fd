import Simulation

/// What the command line asks for.
struct Options {
  struct Problem: Error { var text: String }

  static let usage = """
    usage: switchover-sim [--seeds FIRST..LAST | --seed N | --window WORD --worlds N]
           switchover-sim --explore FAULTS [--stride N] [--order N] [--part I/N]
           switchover-sim --order N --faults KIND@STEP[,KIND@STEP]
           switchover-sim --list FILE
      --seeds FIRST..LAST  runs these worlds, both ends included (default 1..1000)
      --seed N             runs one world
      --window WORD        runs worlds that begin at a seed derived from the word, such as a commit
      --worlds N           and ends after so many
      --seconds N          stops after so many seconds of wall time
      --jobs N             works in so many processes (default 1)
      --hashes             prints the log's hash of every world
      --explore FAULTS     every fault (1), or every pair of faults (2), at every step of every order
      --stride N           takes only every Nth step (default 1)
      --order N            takes only this order
      --part I/N           takes only the Ith of N parts, counted from 1
      --faults LIST        the world of one exploration
      --list FILE          runs the worlds that FILE names, 'seed N' or 'order N faults LIST' a line
      --verbose            prints everything that happens in a world
      --keep-going         goes on after a violation
      --until RULE         goes on until this rule is broken
    A campaign of \(Campaign.worldsThatMustCoverAll) worlds or more fails when a row of the transition
    table was never taken, or a kind of fault never struck; one that is long enough also when its
    processes have more and more memory in use.
    """

  var first: UInt64 = 1
  var last: UInt64 = 1000
  /// Wall time after which no further world begins; nil: all are run.
  var seconds: UInt64?
  var printsHashes = false
  var isVerbose = false
  var keepsGoing = false
  var until: Rule?
  var jobs = 1
  /// How many faults strike in one world of an exploration; 0: no exploration.
  var exploredFaults: UInt64 = 0
  var stride: UInt64 = 1
  var order: UInt64?
  var part: (index: Int, count: Int) = (0, 1)
  var faults: [(kind: FaultKind, step: Int)] = []
  var list: String?

  init(_ arguments: some Sequence<String>) throws(Problem) {
    var rest = arguments.makeIterator()
    while let argument = rest.next() {
      switch argument {
      case "--seed":
        first = try Self.number(rest.next(), after: argument)
        last = first
      case "--seeds": (first, last) = try Self.range(rest.next() ?? "", after: argument)
      case "--window":
        first = Self.seed(of: rest.next() ?? "")
        last = UInt64.max
      case "--worlds":
        let worlds = max(try Self.number(rest.next(), after: argument), 1)
        last = first.addingReportingOverflow(worlds - 1).partialValue
      case "--jobs": jobs = Int(clamping: max(try Self.number(rest.next(), after: argument), 1))
      case "--seconds": seconds = try Self.number(rest.next(), after: argument)
      case "--hashes": printsHashes = true
      case "--explore":
        exploredFaults = try Self.number(rest.next(), after: argument)
        guard (1...2).contains(exploredFaults) else {
          throw Problem(text: "one fault or two can be explored")
        }
      case "--stride": stride = max(try Self.number(rest.next(), after: argument), 1)
      case "--order": order = try Self.order(rest.next())
      case "--part": part = try Self.part(rest.next() ?? "")
      case "--faults": faults = try Self.faults(rest.next() ?? "")
      case "--list": list = rest.next() ?? ""
      case "--verbose": isVerbose = true
      case "--keep-going": keepsGoing = true
      case "--until": until = try Self.rule(rest.next() ?? "")
      default: throw Problem(text: "unknown argument '\(argument)'")
      }
    }
    guard first <= last else { throw Problem(text: "the range is empty") }
    guard last < UInt64.max || seconds != nil else {
      throw Problem(text: "'--window' needs '--worlds' or '--seconds'")
    }
  }

  // MARK: - Words

  static func order(_ text: String?) throws(Problem) -> UInt64 {
    let order = try number(text, after: "order")
    guard order < UInt64(Order.all.count) else {
      throw Problem(text: "there are \(Order.all.count) orders, counted from 0")
    }
    return order
  }

  static func faults(_ text: String) throws(Problem) -> [(kind: FaultKind, step: Int)] {
    try text.split(separator: ",").map(fault)
  }

  static func number(_ text: String?, after option: String) throws(Problem) -> UInt64 {
    guard let text, let number = UInt64(text) else {
      throw Problem(text: "'\(option)' needs a number")
    }
    return number
  }

  private static func fault(
    _ text: Substring
  ) throws(Problem) -> (kind: FaultKind, step: Int) {
    let parts = text.split(separator: "@")
    guard parts.count == 2, let kind = FaultKind(rawValue: String(parts[0])),
      let step = Int(parts[1])
    else { throw Problem(text: "'\(text)' is no KIND@STEP") }
    return (kind, step)
  }

  private static func rule(_ text: String) throws(Problem) -> Rule {
    guard let rule = Rule(rawValue: text) else { throw Problem(text: "'\(text)' is no rule") }
    return rule
  }

  private static func range(
    _ text: String, after option: String
  ) throws(Problem) -> (UInt64, UInt64) {
    let ends = text.split(separator: ".", omittingEmptySubsequences: true)
    guard ends.count == 2 else { throw Problem(text: "'\(text)' is no range FIRST..LAST") }
    return (try number(String(ends[0]), after: option), try number(String(ends[1]), after: option))
  }

  private static func part(_ text: String) throws(Problem) -> (index: Int, count: Int) {
    let numbers = text.split(separator: "/").map { Int($0) ?? 0 }
    guard numbers.count == 2, numbers[1] > 0, (1...numbers[1]).contains(numbers[0]) else {
      throw Problem(text: "'\(text)' is no part I/N")
    }
    return (numbers[0] - 1, numbers[1])
  }

  /// FNV-1a, kept short enough to be typed.
  private static func seed(of word: String) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in word.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return hash >> 24
  }
}
