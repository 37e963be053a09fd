import MigrationEngine

/// One way of doing a migration: the small worlds that are explored exhaustively.
public struct Order: Sendable, CustomStringConvertible {
  public enum Storage: String, CaseIterable, Sendable {
    case shared
    /// Mirrors, ended after the switchover.
    case mirroredFast = "mirrored, fast order"
    /// Mirrors, ended in `pre-switchover`.
    case mirroredFallback = "mirrored, fallback"
  }

  public var release: SimulatedRelease
  public var handOver: HandOverMode
  public var storage: Storage
  /// Whether the kernel tells who is behind a monitor.
  public var isLocal: Bool

  public static let all: [Order] = SimulatedRelease.allCases.flatMap { release in
    HandOverMode.allCases.flatMap { handOver in
      Storage.allCases.flatMap { storage in
        [true, false].map {
          Order(release: release, handOver: handOver, storage: storage, isLocal: $0)
        }
      }
    }
  }

  /// One variant of every hand-over and storage, by its place in `all`: for explorations that would take
  /// too long with all of them. Release and place take turns.
  public static let forPairs: [Int] = {
    var places: [Int] = []
    for handOver in HandOverMode.allCases {
      for storage in Storage.allCases {
        let variants = all.indices.filter {
          all[$0].handOver == handOver && all[$0].storage == storage
        }
        places.append(variants[places.count % variants.count])
      }
    }
    return places
  }()

  public var description: String {
    "QEMU \(release.rawValue), hand-over \(handOver), \(storage.rawValue), "
      + (isLocal ? "one host" : "two hosts")
  }

  /// Its world, with nothing in the way.
  public var scenario: Scenario {
    var scenario = Scenario(release: release)
    scenario.options.handOver = handOver
    scenario.options.sourceEnd = handOver == .external ? .keep : .quit
    scenario.options.isJournaled = true
    scenario.isLocal = isLocal
    scenario.host.delay = .milliseconds(2)
    scenario.source.timing.usedMemoryBytes = 1 << 20
    scenario.source.timing.dirtyBytesPerSecond = 0
    switch storage {
    case .shared: scenario.shareDisks(1, hasLock: true)
    case .mirroredFast, .mirroredFallback:
      scenario.hasOutOfBandMonitor = true
      scenario.options.storage.allowsFastOrder = storage == .mirroredFast
      scenario.mirrorDisks(1, takenOver: false, serverRuns: false)
    }
    return scenario
  }
}

/// Every fault at every step of an order, alone or with a second one.
public struct Exploration: Sendable {
  public let order: Order
  /// The steps of the undisturbed world at which a fault may strike.
  public let steps: [Int]
  /// Those before which something has changed that an observer can tell: phase, run states, statuses,
  /// the load, and who is connected. A fault at any other step meets the same pair as at the one before.
  public let distinctSteps: [Int]

  public init(_ order: Order) {
    self.order = order
    let report = World(order.scenario, seed: 1).run()
    steps = report.steps
    distinctSteps = report.distinctSteps
  }

  /// The world in which these faults strike.
  public func world(_ faults: [(kind: FaultKind, step: Int)], isVerbose: Bool = false) -> World {
    var scenario = order.scenario
    scenario.faults = faults.map {
      Fault($0.kind, .step($0.step), length: .seconds(3), bytes: 7)
    }
    return World(scenario, seed: 1, isVerbose: isVerbose)
  }
}
