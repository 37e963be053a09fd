import Glibc
import MigrationEngine
import Simulation

/// Every fault, or every pair, at every step of every order.
struct Explorer {
  private let options: Options
  private var worlds = 0
  private var broken = 0

  init(_ options: Options) { self.options = options }

  /// Answers whether every rule held.
  mutating func run() -> Bool {
    let first = clock()
    for (number, order) in Order.all.enumerated() {
      if let chosen = options.order, chosen != UInt64(number) { continue }
      let before = (worlds: worlds, broken: broken)
      let exploration = Exploration(order)
      if options.faults.isEmpty {
        explore(exploration, number)
      } else {
        judge(exploration, options.faults, number)
      }
      print(
        "order \(number) (\(order)): \(exploration.steps.count) steps, "
          + "\(worlds - before.worlds) worlds, \(broken - before.broken) violations")
      if broken > 0 && !options.keepsGoing { break }
    }
    let seconds = Double(clock() - first) / Double(CLOCKS_PER_SEC)
    print(
      "\(worlds) worlds in \(Int(seconds * 1000)) ms of processor time; \(broken) violations")
    return broken == 0
  }

  private mutating func explore(_ exploration: Exploration, _ number: Int) {
    let steps = exploration.steps.enumerated()
      .filter { $0.offset % Int(clamping: options.stride) == 0 }.map(\.element)
    for step in steps {
      for kind in FaultKind.allCases {
        judge(exploration, [(kind, step)], number)
        guard options.exploredFaults == 2 else { continue }
        for second in steps where second >= step {
          for other in FaultKind.allCases {
            judge(exploration, [(kind, step), (other, second)], number)
          }
        }
      }
    }
  }

  private mutating func judge(
    _ exploration: Exploration, _ faults: [(kind: FaultKind, step: Int)], _ number: Int
  ) {
    if broken > 0 && !options.keepsGoing { return }
    worlds += 1
    let world = exploration.world(faults, isVerbose: options.isVerbose)
    let report = world.run()
    for line in world.log.lines { print(line) }
    guard !report.violations.isEmpty else { return }
    broken += 1
    let list = faults.map { "\($0.kind.rawValue)@\($0.step)" }.joined(separator: ",")
    for violation in report.violations {
      print(
        "--order \(number) --faults \(list): \(violation.rule.rawValue): \(violation.text)")
    }
  }
}
