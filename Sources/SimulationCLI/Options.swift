import Simulation

/// What the command line asks for.
struct Options {
  struct Problem: Error { var text: String }

  static let usage = """
    usage: switchover-sim [--seeds FIRST..LAST | --seed N] [--verbose] [--keep-going]
           switchover-sim --explore FAULTS [--stride N] [--order N] [--keep-going]
           switchover-sim --order N --faults KIND@STEP[,KIND@STEP] [--verbose]
      --seeds FIRST..LAST  runs these worlds, both ends included (default 1..1000)
      --seed N             runs one world
      --verbose            prints everything that happens in it
      --keep-going         goes on after a violation
      --explore FAULTS     every fault (1), or every pair of faults (2), at every step of every order
      --stride N           takes only every Nth step (default 1)
      --order N            takes only this order
      --faults LIST        the world of one exploration
    """

  var first: UInt64 = 1
  var last: UInt64 = 1000
  var isVerbose = false
  var keepsGoing = false
  /// How many faults strike in one world of an exploration; 0: no exploration.
  var exploredFaults: UInt64 = 0
  var stride: UInt64 = 1
  var order: UInt64?
  var faults: [(kind: FaultKind, step: Int)] = []

  init(_ arguments: some Sequence<String>) throws(Problem) {
    var rest = arguments.makeIterator()
    while let argument = rest.next() {
      switch argument {
      case "--seed":
        let number = try Self.number(rest.next(), after: argument)
        first = number
        last = number
      case "--seeds":
        let text = rest.next() ?? ""
        let ends = text.split(separator: ".", omittingEmptySubsequences: true)
        guard ends.count == 2 else { throw Problem(text: "'\(text)' is no range FIRST..LAST") }
        first = try Self.number(String(ends[0]), after: argument)
        last = try Self.number(String(ends[1]), after: argument)
      case "--explore":
        exploredFaults = try Self.number(rest.next(), after: argument)
        guard (1...2).contains(exploredFaults) else {
          throw Problem(text: "one fault or two can be explored")
        }
      case "--stride": stride = max(try Self.number(rest.next(), after: argument), 1)
      case "--order":
        order = try Self.number(rest.next(), after: argument)
        guard let order, order < UInt64(Order.all.count) else {
          throw Problem(text: "there are \(Order.all.count) orders, counted from 0")
        }
      case "--faults":
        faults = try (rest.next() ?? "").split(separator: ",").map(Self.fault)
      case "--verbose": isVerbose = true
      case "--keep-going": keepsGoing = true
      default: throw Problem(text: "unknown argument '\(argument)'")
      }
    }
    guard first <= last else { throw Problem(text: "the range is empty") }
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

  private static func number(_ text: String?, after option: String) throws(Problem) -> UInt64 {
    guard let text, let number = UInt64(text) else {
      throw Problem(text: "'\(option)' needs a number")
    }
    return number
  }
}
