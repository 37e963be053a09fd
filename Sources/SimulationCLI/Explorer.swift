import Glibc
import MigrationEngine
import Simulation

/// Every fault, or every pair, at every step of every order.
struct Explorer {
  private let options: Options
  private var worlds = 0
  private var broken = 0
  private var struck = [Int](repeating: 0, count: FaultKind.allCases.count)
  /// Pairs that are some other world, because their first fault strikes nothing.
  private var pairsOfOne = 0
  /// Worlds with a first fault; `--part` deals them out.
  private var dealt = 0

  init(_ options: Options) { self.options = options }

  /// Answers whether every rule held.
  mutating func run() -> Bool {
    let first = clock()
    for (number, order) in Order.all.enumerated() where isChosen(number) {
      let before = (worlds: worlds, broken: broken)
      let exploration = Exploration(order)
      if !options.faults.isEmpty {
        judge(exploration, options.faults, number)
      } else if options.exploredFaults == 2 {
        explorePairs(exploration, number)
      } else {
        exploreSingles(exploration, number)
      }
      let steps =
        options.exploredFaults == 2
        ? "\(exploration.distinctSteps.count) distinct ones of \(exploration.steps.count) steps"
        : "\(exploration.steps.count) steps"
      print(
        "order \(number) (\(order)): \(steps), \(worlds - before.worlds) worlds, "
          + "\(broken - before.broken) violations")
      fflush(nil)
      if broken > 0 && !options.keepsGoing { break }
    }
    printFigures(Double(clock() - first) / Double(CLOCKS_PER_SEC))
    return broken == 0
  }

  /// Pairs are tried in one variant of every way of doing it: the variants take turns.
  private func isChosen(_ number: Int) -> Bool {
    if let chosen = options.order { return chosen == UInt64(number) }
    return options.exploredFaults != 2 || Order.forPairs.contains(number)
  }

  private func printFigures(_ seconds: Double) {
    if options.exploredFaults > 0 {
      print("worlds in which a fault struck:")
      for (kind, count) in zip(FaultKind.allCases, struck) {
        print("  \(count)  \(kind.rawValue)")
      }
    }
    if pairsOfOne > 0 { print("pairs whose first fault finds nothing to strike: \(pairsOfOne)") }
    print("\(worlds) worlds in \(Int(seconds * 1000)) ms of processor time; \(broken) violations")
  }

  private func strided(_ steps: [Int]) -> [Int] {
    steps.enumerated().filter { $0.offset % Int(clamping: options.stride) == 0 }.map(\.element)
  }

  private mutating func isDealtToUs() -> Bool {
    dealt += 1
    return dealt % options.part.count == options.part.index
  }

  private mutating func exploreSingles(_ exploration: Exploration, _ number: Int) {
    for step in strided(exploration.steps) {
      for kind in FaultKind.allCases where isDealtToUs() {
        judge(exploration, [(kind, step)], number)
      }
    }
  }

  private mutating func explorePairs(_ exploration: Exploration, _ number: Int) {
    let steps = strided(exploration.distinctSteps)
    for step in steps {
      for kind in FaultKind.allCases where isDealtToUs() {
        let seconds = steps.filter { $0 >= step }
        guard judge(exploration, [(kind, step)], number) > 0 else {
          pairsOfOne += seconds.count * FaultKind.allCases.count
          continue
        }
        for second in seconds {
          for other in FaultKind.allCases {
            judge(exploration, [(kind, step), (other, second)], number)
          }
        }
      }
    }
  }

  /// Answers how many of the faults struck.
  @discardableResult
  private mutating func judge(
    _ exploration: Exploration, _ faults: [(kind: FaultKind, step: Int)], _ number: Int
  ) -> Int {
    if broken > 0 && !options.keepsGoing { return 0 }
    worlds += 1
    let world = exploration.world(faults, isVerbose: options.isVerbose)
    let report = world.run()
    for line in world.log.lines { print(line) }
    for kind in report.struck {
      if let index = FaultKind.allCases.firstIndex(of: kind) { struck[index] += 1 }
    }
    guard !report.violations.isEmpty else { return report.struck.count }
    broken += 1
    let list = faults.map { "\($0.kind.rawValue)@\($0.step)" }.joined(separator: ",")
    for violation in report.violations {
      print(
        "--order \(number) --faults \(list): \(violation.rule.rawValue): \(violation.text)")
    }
    return report.struck.count
  }
}
