import MigrationEngine
import QMP

/// One migration whole, from bytes to effects: the engine joined to its monitors.
///
/// The same value runs in the library's loop and in the simulation.
public struct MigrationSession: DrivenSession {
  private var engine: MigrationEngine
  private var monitors = MonitorGroup()
  private let configuration: SessionConfiguration

  private var inputs: [EngineInput] = []
  private var engineEffects: [EngineEffect] = []
  private var isStarted = false

  public init(configuration: SessionConfiguration) {
    self.configuration = configuration
    engine = MigrationEngine(options: configuration.options)
    let policy = MonitorConnection.Policy.reconnect(within: configuration.options.reconnectDeadline)
    monitors.add(.sourceMonitor, configuration.sourceMonitor, policy: policy)
    monitors.add(.targetMonitor, configuration.targetMonitor, policy: policy)
    if let endpoint = configuration.sourceOutOfBand {
      monitors.add(.sourceOutOfBand, endpoint, policy: policy, wantsOutOfBand: true)
    }
  }

  // MARK: - What is known

  public var phase: MigrationPhase { engine.phase }
  /// Set when the migration has ended.
  public var conclusion: Conclusion? { engine.conclusion }
  public var owner: Owner { engine.owner }
  public var guest: GuestCondition { engine.guest }
  public var progress: Progress { engine.progress }
  public var ledger: Ledger { engine.ledger }
  /// The source's last answer to `query-migrate`, in QEMU's own words.
  public var sourceReport: JSONValue? { monitors.sourceReport }
  public var disks: [DiskProgress] { engine.disks }
  public var options: MigrationOptions { engine.options }
  /// Whether a cancel would still be taken (I4).
  public var canCancel: Bool { engine.canCancel }

  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  public var nextDeadline: MonotonicInstant? {
    guard let left = engine.nextDeadline, let right = monitors.nextDeadline else {
      return engine.nextDeadline ?? monitors.nextDeadline
    }
    return min(left, right)
  }

  // MARK: - Inputs

  /// Takes one input and appends what is to be done about it, in order.
  public mutating func handle(
    _ input: SessionInput, at now: MonotonicInstant, effects: inout [SessionEffect]
  ) {
    switch input {
    case .requested(let request):
      requested(request, at: now, &effects)
    case .streamOpened(let stream, let peer):
      monitors.opened(stream, peer: peer, at: now, &effects)
      noteSharedClock()
    case .streamUnavailable(let stream, let failure):
      monitors.openFailed(stream, failure, at: now, &effects)
    case .streamEnded(let stream, let withProcess):
      monitors.ended(stream, withProcess: withProcess, at: now, &effects)
    case .recordStored:
      inputs.append(.intentStored)
    case .recordNotStored(let text):
      inputs.append(.intentNotStored(text: text))
    case .clientsCounted(let stream, let count):
      inputs.append(.clientsWait(stream.side, count))
    case .processExited(let stream):
      monitors.processExited(stream)
    case .timePassed:
      monitors.timePassed(at: now, &effects)
      inputs += monitors.takeFacts()
      inputs.append(.timePassed)
    }
    run(at: now, &effects)
  }

  /// Takes bytes that arrived on a stream, in pieces of any size.
  public mutating func received(
    _ bytes: UnsafeRawBufferPointer, on stream: StreamID, at now: MonotonicInstant,
    effects: inout [SessionEffect]
  ) {
    monitors.received(bytes, on: stream, at: now, &effects)
    run(at: now, &effects)
  }

  // MARK: - Host program

  private mutating func requested(
    _ request: HostRequest, at now: MonotonicInstant, _ effects: inout [SessionEffect]
  ) {
    switch request {
    case .start:
      guard !isStarted else { return }
      isStarted = true
      inputs.append(.startRequested)
      for stream in StreamID.allCases {
        monitors.open(
          stream, within: configuration.options.connectDeadline, at: now, &effects)
      }
    case .cancel: inputs.append(.cancelRequested)
    case .handedOver(let result): inputs.append(.handOverReported(result))
    case .handedBack: inputs.append(.handedBack)
    case .fenced(let side): inputs.append(.fenced(side))
    case .downtimeLimit(let limit): inputs.append(.downtimeLimitRequested(limit))
    }
  }

  /// Both QEMUs run on this machine: the ledger need not estimate their clocks.
  private mutating func noteSharedClock() {
    guard let offset = configuration.clockOffsetMicroseconds,
      monitors.peer(of: .source) != nil, monitors.peer(of: .target) != nil
    else { return }
    engine.clocksAreOne(offset: offset)
  }

  // MARK: - Engine

  /// Feeds the engine until it wants nothing more.
  private mutating func run(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    while true {
      inputs += monitors.takeFacts()
      if inputs.isEmpty { return }
      let batch = inputs
      inputs.removeAll(keepingCapacity: true)
      for input in batch {
        engine.handle(input, at: now, effects: &engineEffects)
        obey(at: now, &effects)
      }
    }
  }

  private mutating func obey(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    guard !engineEffects.isEmpty else { return }
    let orders = engineEffects
    engineEffects.removeAll(keepingCapacity: true)
    // What goes to QEMU goes first, each side's commands in one write; words for people can wait.
    for order in orders {
      switch order {
      case .send(let command, let side): monitors.send(command, to: side, at: now)
      case .sendOutOfBand(let command, _): monitors.sendOutOfBand(command, at: now)
      default: break
      }
    }
    monitors.flush(at: now, &effects)
    for order in orders {
      switch order {
      case .send, .sendOutOfBand: break
      case .letGo(let side): monitors.close(.monitor(of: side), at: now, &effects)
      case .attach(let side):
        // At the source others may keep it for long, and giving up would cost our place in the queue.
        let limit =
          side == .source
          ? configuration.options.reconnectDeadline : configuration.options.connectDeadline
        monitors.open(.monitor(of: side), within: limit, at: now, &effects)
      case .countWaiting(let side):
        effects.append(.countWaiting(.monitor(of: side), configuration.monitor(of: side)))
      case .phaseChanged(let phase): effects.append(.report(.phaseChanged(phase)))
      case .progressed: effects.append(.report(.progressed))
      case .handOverWanted: effects.append(.report(.handOverWanted))
      case .warn(let text): effects.append(.report(.warning(text)))
      case .log(let text): effects.append(.report(.log(text)))
      case .storeIntent:
        effects.append(.persist(record.encoded))
      case .finished:
        if engine.intentIsStored {
          effects.append(.persist(record.encoded))
        }
        for stream in StreamID.allCases { monitors.close(stream, at: now, &effects) }
        _ = monitors.takeFacts()
        inputs.removeAll()
        effects.append(.report(.finished))
      }
    }
  }

  /// The journal's content as of now.
  private var record: JournalRecord {
    JournalRecord(
      configuration: configuration, facts: engine.intentFacts,
      sourceProcess: monitors.peer(of: .source), targetProcess: monitors.peer(of: .target),
      conclusion: engine.conclusion)
  }
}
