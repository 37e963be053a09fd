import MigrationEngine
import QMP

/// One migration whole, from bytes to effects: the engine joined to its monitors.
///
/// The driver's contract is one sentence: after every input carry out the effects in order, then sleep
/// until a stream is readable or `nextDeadline`; spurious wake-ups change nothing. The same value runs
/// in the library's loop and in the simulation.
public struct MigrationSession {
  private var engine: MigrationEngine
  private var sourceMonitor: Monitor
  private var targetMonitor: Monitor
  private var outOfBandMonitor: Monitor?
  private let configuration: SessionConfiguration

  private var inputs: [EngineInput] = []
  private var engineEffects: [EngineEffect] = []
  private var isStarted = false

  public init(configuration: SessionConfiguration) {
    self.configuration = configuration
    engine = MigrationEngine(options: configuration.options)
    let policy = MonitorConnection.Policy.reconnect(within: configuration.options.reconnectDeadline)
    sourceMonitor = Monitor(
      MonitorConnection(endpoint: configuration.sourceMonitor, policy: policy))
    targetMonitor = Monitor(
      MonitorConnection(endpoint: configuration.targetMonitor, policy: policy))
    outOfBandMonitor = configuration.sourceOutOfBand.map {
      Monitor(MonitorConnection(endpoint: $0, policy: policy, wantsOutOfBand: true))
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
  public var disks: [DiskProgress] { engine.disks }
  public var options: MigrationOptions { engine.options }
  /// Whether a cancel would still be taken (I4).
  public var canCancel: Bool { engine.canCancel }

  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  public var nextDeadline: MonotonicInstant? {
    let instants = (
      engine.nextDeadline, sourceMonitor.nextDeadline, targetMonitor.nextDeadline,
      outOfBandMonitor?.nextDeadline
    )
    func earlier(_ left: MonotonicInstant?, _ right: MonotonicInstant?) -> MonotonicInstant? {
      guard let left, let right else { return left ?? right }
      return min(left, right)
    }
    return earlier(earlier(instants.0, instants.1), earlier(instants.2, instants.3))
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
      streamOpened(stream, peer, at: now, &effects)
    case .streamUnavailable(let stream, let failure):
      onMonitor(stream, at: now, &effects) { $0.openFailed(failure, at: now, into: &$1) }
    case .streamEnded(let stream):
      onMonitor(stream, at: now, &effects) { $0.ended(at: now, into: &$1) }
      noteExit(of: stream)
    case .recordStored:
      inputs.append(.intentStored)
    case .recordNotStored(let text):
      inputs.append(.intentNotStored(text: text))
    case .processExited(let stream):
      withMonitor(stream) { $0.processHasExited = true }
      noteExit(of: stream)
    case .timePassed:
      for stream in StreamID.allCases {
        var out: [MonitorConnection.Effect] = []
        onMonitor(stream, at: now, &effects) {
          $0.timePassed(at: now, effects: &out, into: &$1)
        }
        carryOut(out, stream, &effects)
      }
      inputs.append(.timePassed)
    }
    run(at: now, &effects)
  }

  /// Takes bytes that arrived on a stream, in pieces of any size.
  public mutating func received(
    _ bytes: UnsafeRawBufferPointer, on stream: StreamID, at now: MonotonicInstant,
    effects: inout [SessionEffect]
  ) {
    var out: [MonitorConnection.Effect] = []
    onMonitor(stream, at: now, &effects) {
      $0.received(bytes, at: now, effects: &out, into: &$1)
    }
    carryOut(out, stream, &effects)
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
        open(stream, within: configuration.options.connectDeadline, at: now, &effects)
      }
    case .cancel: inputs.append(.cancelRequested)
    case .handedOver(let result): inputs.append(.handOverReported(result))
    case .handedBack: inputs.append(.handedBack)
    case .fenced(let side): inputs.append(.fenced(side))
    }
  }

  // MARK: - Streams

  private mutating func streamOpened(
    _ stream: StreamID, _ peer: PeerProcess?, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    var isStranger = false
    withMonitor(stream) { monitor in
      if let known = monitor.peer, let peer, known != peer {
        isStranger = true
      } else {
        monitor.peer = monitor.peer ?? peer
        monitor.connection.opened(at: now)
      }
    }
    if isStranger {
      // Another QEMU took the address over: it is not the one that this migration spoke to.
      effects.append(.close(stream))
      onMonitor(stream, at: now, &effects) {
        $0.openFailed(.other(text: "another QEMU answers there now"), at: now, into: &$1)
      }
      return
    }
    if sourceMonitor.peer != nil, targetMonitor.peer != nil,
      let offset = configuration.clockOffsetMicroseconds
    {
      engine.clocksAreOne(offset: offset)
    }
  }

  /// A process that is gone has nothing more to say once its stream has ended. What it said before
  /// counts first: a SHUTDOWN may still be on its way.
  private mutating func noteExit(of stream: StreamID) {
    var isOver = false
    withMonitor(stream) { monitor in
      isOver = monitor.processHasExited && !monitor.exitReported && !monitor.connection.isReady
      if isOver { monitor.exitReported = true }
    }
    if isOver { inputs.append(.processExited(stream.side)) }
  }

  private mutating func open(
    _ stream: StreamID, within limit: Span, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    var out: [MonitorConnection.Effect] = []
    withMonitor(stream) { $0.connection.open(within: limit, at: now, effects: &out) }
    carryOut(out, stream, &effects)
  }

  private mutating func close(
    _ stream: StreamID, at now: MonotonicInstant, _ effects: inout [SessionEffect]
  ) {
    var out: [MonitorConnection.Effect] = []
    onMonitor(stream, at: now, &effects) { $0.close(effects: &out, into: &$1) }
    carryOut(out, stream, &effects)
  }

  // MARK: - Monitors

  private mutating func withMonitor(_ stream: StreamID, _ body: (inout Monitor) -> Void) {
    switch stream {
    case .sourceMonitor: body(&sourceMonitor)
    case .targetMonitor: body(&targetMonitor)
    case .sourceOutOfBand:
      if var monitor = outOfBandMonitor {
        body(&monitor)
        outOfBandMonitor = monitor
      }
    }
  }

  /// Lets a monitor take something, and turns its notices into the engine's inputs.
  private mutating func onMonitor(
    _ stream: StreamID, at now: MonotonicInstant, _ effects: inout [SessionEffect],
    _ body: (inout MonitorConnection, inout [MonitorConnection.Notice]) -> Void
  ) {
    var notices: [MonitorConnection.Notice] = []
    withMonitor(stream) { body(&$0.connection, &notices) }
    for notice in notices {
      if stream == .sourceOutOfBand { takeOutOfBand(notice) } else { take(notice, stream, at: now) }
    }
  }

  /// The out-of-band monitor only carries commands; its events are those of the other monitor again.
  private mutating func takeOutOfBand(_ notice: MonitorConnection.Notice) {
    switch notice {
    case .ready(_, let outOfBand):
      inputs.append(.outOfBandChanged(.source, isReady: outOfBand))
    case .lost, .unavailable:
      inputs.append(.outOfBandChanged(.source, isReady: false))
    case .reply, .commandFailed, .outcomeUnknown, .event:
      break
    }
  }

  private mutating func take(
    _ notice: MonitorConnection.Notice, _ stream: StreamID, at now: MonotonicInstant
  ) {
    let side = stream.side
    switch notice {
    case .ready(let greeting, _):
      let version = greeting.version
      inputs.append(
        .monitorReady(
          side,
          QEMURelease(
            Int(clamping: version.major), Int(clamping: version.minor),
            Int(clamping: version.micro))))
    case .reply(let id, let value):
      replied(id, stream, at: now) { .answered($0.answer(value)) }
    case .commandFailed(let id, let error):
      replied(id, stream, at: now) { _ in
        .refused(Refusal(errorClass: error.errorClass, text: error.text))
      }
    case .outcomeUnknown(let id, _):
      replied(id, stream, at: now) { _ in .lost }
    case .event(let event):
      inputs.append(
        .eventArrived(side, QEMUEvent(event), timestamp: event.timestampMicroseconds))
    case .lost:
      inputs.append(.monitorLost(side))
    case .unavailable(let trouble):
      inputs.append(.monitorUnavailable(side, trouble))
    }
  }

  private mutating func replied(
    _ id: QMPCommandID, _ stream: StreamID, at now: MonotonicInstant,
    _ reply: (Command) -> CommandReply
  ) {
    var command: SentCommand?
    withMonitor(stream) { command = $0.takeCommand(id) }
    guard let command else { return }
    inputs.append(
      .replied(
        stream.side, command.command, reply(command.command), roundTrip: now - command.sentAt))
  }

  private func carryOut(
    _ out: [MonitorConnection.Effect], _ stream: StreamID, _ effects: inout [SessionEffect]
  ) {
    for effect in out {
      switch effect {
      case .open(let endpoint): effects.append(.open(stream, endpoint))
      case .close: effects.append(.close(stream))
      case .write(let bytes): effects.append(.write(stream, bytes))
      }
    }
  }

  // MARK: - Engine

  /// Feeds the engine until it wants nothing more.
  private mutating func run(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    while !inputs.isEmpty {
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
      case .send(let command, let side): send(command, to: side, at: now)
      case .sendOutOfBand(let command, _): sendOutOfBand(command, at: now)
      default: break
      }
    }
    flush(&effects)
    for order in orders {
      switch order {
      case .send, .sendOutOfBand: break
      case .letGo(let side): close(.monitor(of: side), at: now, &effects)
      case .attach(let side):
        open(
          .monitor(of: side), within: configuration.options.connectDeadline, at: now, &effects)
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
        for stream in StreamID.allCases { close(stream, at: now, &effects) }
        inputs.removeAll()
        effects.append(.report(.finished))
      }
    }
  }

  /// The journal's content as of now.
  private var record: JournalRecord {
    JournalRecord(
      configuration: configuration, facts: engine.intentFacts,
      sourceProcess: sourceMonitor.peer, targetProcess: targetMonitor.peer,
      conclusion: engine.conclusion)
  }

  private mutating func send(_ command: Command, to side: Side, at now: MonotonicInstant) {
    let stream = StreamID.monitor(of: side)
    var isSent = false
    withMonitor(stream) { monitor in
      let id = monitor.connection.execute(
        command.qmpName, arguments: command.qmpArguments, deadline: now + command.replyLimit)
      guard let id else { return }
      monitor.inFlight.append(SentCommand(id: id, command: command, sentAt: now))
      isSent = true
    }
    // A command that could not be written has certainly not been carried out, but saying "lost" is
    // the weaker claim, and the engine asks again.
    if !isSent { inputs.append(.replied(side, command, .lost, roundTrip: .zero)) }
  }

  private mutating func sendOutOfBand(_ command: Command, at now: MonotonicInstant) {
    withMonitor(.sourceOutOfBand) { monitor in
      _ = monitor.connection.execute(
        command.qmpName, arguments: command.qmpArguments, outOfBand: true,
        deadline: now + command.replyLimit)
    }
  }

  private mutating func flush(_ effects: inout [SessionEffect]) {
    for stream in [StreamID.targetMonitor, .sourceMonitor, .sourceOutOfBand] {
      var out: [MonitorConnection.Effect] = []
      withMonitor(stream) { $0.connection.flush(effects: &out) }
      carryOut(out, stream, &effects)
    }
  }
}

extension StreamID {
  fileprivate static func monitor(of side: Side) -> StreamID {
    side == .source ? .sourceMonitor : .targetMonitor
  }
}

/// A command on its way.
private struct SentCommand {
  var id: QMPCommandID
  var command: Command
  var sentAt: MonotonicInstant
}

/// One side's monitor and what belongs to it.
private struct Monitor {
  var connection: MonitorConnection
  var inFlight: [SentCommand] = []
  /// The QEMU that answered first; a later one at the same address is another guest's.
  var peer: PeerProcess?
  var processHasExited = false
  var exitReported = false

  init(_ connection: MonitorConnection) { self.connection = connection }

  var nextDeadline: MonotonicInstant? { connection.nextDeadline }

  mutating func takeCommand(_ id: QMPCommandID) -> SentCommand? {
    guard let index = inFlight.firstIndex(where: { $0.id == id }) else { return nil }
    return inFlight.remove(at: index)
  }
}
