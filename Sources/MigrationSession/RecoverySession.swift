import MigrationEngine
import QMP

/// What a recovery starts from.
public struct RecoveryConfiguration: Sendable {
  /// The host program's words, and what the kernel says of the journal's processes. The session adds
  /// what the journal says.
  public var options = RecoveryOptions()
  /// The journal; nil: there is none.
  public var record: JournalRecord?
  /// nil: this side cannot be asked.
  public var sourceMonitor: Endpoint?
  public var targetMonitor: Endpoint?
  public var sourceOutOfBand: Endpoint?
  /// How long a monitor may take to greet.
  public var connectDeadline = Span.seconds(5)
  /// How long a lost monitor may take to come back.
  public var reconnectDeadline = Span.seconds(10)

  public init() {}
}

/// One recovery whole, from bytes to effects: the same contract as that of a migration.
public struct RecoverySession: DrivenSession {
  private let configuration: RecoveryConfiguration
  private var engine: RecoveryEngine
  private var monitors = MonitorGroup()
  private var engineEffects: [EngineEffect] = []
  private var isStarted = false
  /// The journal says that nothing is left to recover.
  private var settledBefore: RecoveryConclusion?
  private var isFinished = false

  public init(configuration: RecoveryConfiguration) {
    self.configuration = configuration
    var options = configuration.options
    options.source.hasMonitor = configuration.sourceMonitor != nil
    options.target.hasMonitor = configuration.targetMonitor != nil
    if let record = configuration.record { options.take(record) }
    engine = RecoveryEngine(options: options)
    let policy = MonitorConnection.Policy.reconnect(within: configuration.reconnectDeadline)
    if let endpoint = configuration.sourceMonitor {
      monitors.add(.sourceMonitor, endpoint, policy: policy)
    }
    if let endpoint = configuration.targetMonitor {
      monitors.add(.targetMonitor, endpoint, policy: policy)
    }
    if let endpoint = configuration.sourceOutOfBand {
      monitors.add(.sourceOutOfBand, endpoint, policy: policy, wantsOutOfBand: true)
    }
    if let process = configuration.record?.source.process {
      monitors.expect(process, on: .sourceMonitor)
      monitors.expect(process, on: .sourceOutOfBand)
    }
    if let process = configuration.record?.target.process {
      monitors.expect(process, on: .targetMonitor)
    }
  }

  /// Set when it has ended.
  public var conclusion: RecoveryConclusion? {
    isFinished ? settledBefore ?? engine.conclusion : nil
  }

  /// What the last look came to; nil before the first.
  public var situation: RecoverySituation? { engine.situation }

  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  public var nextDeadline: MonotonicInstant? {
    guard let left = engine.nextDeadline, let right = monitors.nextDeadline else {
      return engine.nextDeadline ?? monitors.nextDeadline
    }
    return min(left, right)
  }

  // MARK: - Inputs

  public mutating func handle(
    _ input: SessionInput, at now: MonotonicInstant, effects: inout [SessionEffect]
  ) {
    guard !isFinished else { return }
    var inputs: [EngineInput] = []
    switch input {
    case .requested(.start): start(at: now, &inputs, &effects)
    case .requested(.fenced(let side)): inputs.append(.fenced(side))
    case .streamOpened(let stream, let peer):
      monitors.opened(stream, peer: peer, at: now, &effects)
    case .streamUnavailable(let stream, let failure):
      monitors.openFailed(stream, failure, at: now, &effects)
    case .streamEnded(let stream, let withProcess):
      monitors.ended(stream, withProcess: withProcess, at: now, &effects)
    case .processExited(let stream): monitors.processExited(stream)
    case .timePassed:
      monitors.timePassed(at: now, &effects)
      inputs = monitors.takeFacts() + [.timePassed]
    case .requested, .recordStored, .recordNotStored, .clientsCounted: break
    }
    run(inputs, at: now, &effects)
  }

  public mutating func received(
    _ bytes: UnsafeRawBufferPointer, on stream: StreamID, at now: MonotonicInstant,
    effects: inout [SessionEffect]
  ) {
    guard !isFinished else { return }
    monitors.received(bytes, on: stream, at: now, &effects)
    run([], at: now, &effects)
  }

  private mutating func start(
    at now: MonotonicInstant, _ inputs: inout [EngineInput], _ effects: inout [SessionEffect]
  ) {
    guard !isStarted else { return }
    isStarted = true
    if let outcome = configuration.record?.outcome, configuration.record?.isSettled == true {
      settledBefore = RecoveryConclusion(settled: outcome)
      finish(at: now, &effects)
      return
    }
    inputs.append(.startRequested)
    for stream in StreamID.allCases {
      monitors.open(stream, within: configuration.connectDeadline, at: now, &effects)
    }
  }

  // MARK: - Engine

  private mutating func run(
    _ inputs: [EngineInput], at now: MonotonicInstant, _ effects: inout [SessionEffect]
  ) {
    var batch = inputs + monitors.takeFacts()
    while !batch.isEmpty, !isFinished {
      for input in batch {
        engine.handle(input, at: now, effects: &engineEffects)
        obey(at: now, &effects)
      }
      batch = monitors.takeFacts()
    }
  }

  private mutating func obey(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    guard !engineEffects.isEmpty else { return }
    let orders = engineEffects
    engineEffects.removeAll(keepingCapacity: true)
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
      case .letGo(let side): monitors.close(.monitor(of: side), at: now, &effects)
      case .warn(let text): effects.append(.report(.warning(text)))
      case .log(let text): effects.append(.report(.log(text)))
      case .storeIntent: storeOutcome(&effects)
      case .finished: finish(at: now, &effects)
      case .send, .sendOutOfBand, .attach, .countWaiting, .phaseChanged, .progressed,
        .handOverWanted:
        break
      }
    }
  }

  private func storeOutcome(_ effects: inout [SessionEffect]) {
    guard var record = configuration.record, let conclusion = engine.conclusion else { return }
    record.outcome = JournalRecord.Outcome(conclusion)
    effects.append(.persist(record.encoded))
  }

  private mutating func finish(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    for stream in StreamID.allCases { monitors.close(stream, at: now, &effects) }
    _ = monitors.takeFacts()
    isFinished = true
    effects.append(.report(.finished))
  }
}

// MARK: - Journal

extension RecoveryOptions {
  /// Adds what the journal says.
  fileprivate mutating func take(_ record: JournalRecord) {
    source.capabilities = record.source.capabilities
    source.parameters = record.source.parameters
    target.capabilities = record.target.capabilities
    target.parameters = record.target.parameters
    journal = Journal(
      handOver: record.handOver, sourceEnd: record.sourceEnd,
      runState: record.runState.isEmpty ? nil : RunState(qemuName: record.runState),
      mirrors: record.mirrors.map { Mirror(jobID: $0.jobID, node: $0.node, isOurs: $0.isOurs) })
  }
}

extension RecoveryConclusion {
  /// A migration whose end is in its journal.
  fileprivate init(settled outcome: JournalRecord.Outcome) {
    self.init(
      rule: "settled", action: .nothing, owner: outcome.owner, guest: outcome.guest,
      text: "the journal has the end of this migration: \(outcome.end)"
        + (outcome.text.isEmpty ? "" : ", \(outcome.text)"),
      toDo: outcome.nextStep, words: [], findings: [], deeds: [])
  }
}

extension JournalRecord.Outcome {
  fileprivate init(_ conclusion: RecoveryConclusion) {
    let end: MigrationEnd =
      switch conclusion.owner {
      case .target: .completed
      case .source, .nobody: .failed
      case .unknown: .unknown
      }
    self.init(
      end: end, owner: conclusion.owner, guest: conclusion.guest, text: conclusion.text,
      nextStep: conclusion.nextStep)
  }
}
