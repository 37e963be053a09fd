/// What the command line asks for.
struct Options {
  struct Problem: Error { var text: String }

  static let usage = """
    usage: switchover-sim [--seeds FIRST..LAST | --seed N] [--verbose] [--keep-going]
      --seeds FIRST..LAST  runs these worlds, both ends included (default 1..1000)
      --seed N             runs one world
      --verbose            prints everything that happens in it
      --keep-going         goes on after a violation
      --summary            prints what was covered
    """

  var first: UInt64 = 1
  var last: UInt64 = 1000
  var isVerbose = false
  var keepsGoing = false

  init() {}

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
      case "--verbose": isVerbose = true
      case "--keep-going": keepsGoing = true
      default: throw Problem(text: "unknown argument '\(argument)'")
      }
    }
    guard first <= last else { throw Problem(text: "the range is empty") }
  }

  private static func number(_ text: String?, after option: String) throws(Problem) -> UInt64 {
    guard let text, let number = UInt64(text) else {
      throw Problem(text: "'\(option)' needs a number")
    }
    return number
  }
}
