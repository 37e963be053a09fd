import Glibc
import MigrationEngine
import Simulation

/// Every fault, or every pair, at every step of every order.
struct Explorer {
  private let options: Options
  private var tally = Tally()
  private var share = Share(index: 0, count: 1)
  /// Worlds with a first fault, which are dealt out.
  private var dealt = 0

  init(_ options: Options) { self.options = options }

  /// Answers whether every rule held.
  mutating func run() -> Bool {
    let options = options
    let work = { (share: Share) in
      var part = Explorer(options)
      part.run(share)
      return part.tally
    }
    guard let tally = Workers.run(options.jobs, stopsWhenBroken: !options.keepsGoing, work) else {
      print("a process of this exploration did not come to its end")
      return false
    }
    self.tally = tally
    printFigures()
    return tally[Tally.broken] == 0
  }

  private mutating func run(_ share: Share) {
    // A part of the whole, and of that the share of this process.
    self.share = Share(
      index: options.part.index + options.part.count * share.index,
      count: options.part.count * share.count)
    let began = clock()
    for (number, order) in Order.all.enumerated() where isChosen(number) {
      let exploration = Exploration(order)
      if !options.faults.isEmpty {
        judge(exploration, options.faults, number)
      } else if options.exploredFaults == 2 {
        explorePairs(exploration, number)
      } else {
        exploreSingles(exploration, number)
      }
      if share.index == 0 {
        tally.add("steps of \(number)", exploration.steps.count)
        tally.add("distinct steps of \(number)", exploration.distinctSteps.count)
      }
      if isOver { break }
    }
    tally.add(Tally.milliseconds, Int(Double(clock() - began) / Double(CLOCKS_PER_SEC) * 1000))
  }

  private var isOver: Bool { tally[Tally.broken] > 0 && !options.keepsGoing }

  /// Pairs are tried in one variant of every way of doing it: the variants take turns.
  private func isChosen(_ number: Int) -> Bool {
    if let chosen = options.order { return chosen == UInt64(number) }
    return options.exploredFaults != 2 || Order.forPairs.contains(number)
  }

  private func printFigures() {
    for (number, order) in Order.all.enumerated() where tally["worlds of \(number)"] > 0 {
      let steps =
        options.exploredFaults == 2
        ? "\(tally["distinct steps of \(number)"]) distinct ones of "
          + "\(tally["steps of \(number)"]) steps"
        : "\(tally["steps of \(number)"]) steps"
      print(
        "order \(number) (\(order)): \(steps), \(tally["worlds of \(number)"]) worlds, "
          + "\(tally["broken of \(number)"]) broken")
    }
    if options.exploredFaults > 0 {
      print("times that a fault struck:")
      for kind in FaultKind.allCases {
        print("  \(tally["fault \(kind.rawValue)"])  \(kind.rawValue)")
      }
    }
    let pairs = tally["pairs of one"]
    if pairs > 0 { print("pairs whose first fault finds nothing to strike: \(pairs)") }
    print(
      "\(tally[Tally.worlds]) worlds in \(tally[Tally.milliseconds]) ms of processor time; "
        + "\(tally[Tally.broken]) violations")
  }

  private func strided(_ steps: [Int]) -> [Int] {
    steps.enumerated().filter { $0.offset % Int(clamping: options.stride) == 0 }.map(\.element)
  }

  private mutating func isDealtToUs() -> Bool {
    dealt += 1
    return dealt % share.count == share.index
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
          tally.add("pairs of one", seconds.count * FaultKind.allCases.count)
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
    if isOver { return 0 }
    let world = exploration.world(faults, isVerbose: options.isVerbose)
    let report = world.run()
    for line in world.log.lines { print(line) }
    tally.add(report)
    tally.add("worlds of \(number)")
    guard !report.violations.isEmpty else { return report.struck.count }
    tally.add("broken of \(number)")
    let list = faults.map { "\($0.kind.rawValue)@\($0.step)" }.joined(separator: ",")
    for violation in report.violations {
      tally.add(Tally.broken)
      print(
        "--order \(number) --faults \(list): \(violation.rule.rawValue): \(violation.text)")
      fflush(nil)
    }
    return report.struck.count
  }
}
