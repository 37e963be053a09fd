import MigrationEngine
import QMP

/// The monitors of one pair of QEMUs: streams and QMP on the driver's side, commands and facts on the
/// engine's.
///
/// What the streams bring turns into `EngineInput`s, which wait in order until they are taken.
struct MonitorGroup {
  private var monitors = [SideMonitor?](repeating: nil, count: StreamID.allCases.count)
  private var facts: [EngineInput] = []
  /// The source's last answer to `query-migrate`, whole.
  private(set) var sourceReport: JSONValue?

  mutating func add(
    _ stream: StreamID, _ endpoint: Endpoint, policy: MonitorConnection.Policy,
    wantsOutOfBand: Bool = false
  ) {
    monitors[stream.rawValue] = SideMonitor(
      MonitorConnection(endpoint: endpoint, policy: policy, wantsOutOfBand: wantsOutOfBand))
  }

  /// Only this process may answer for the side; another one is a stranger from the first connection on.
  mutating func expect(_ process: PeerProcess, on stream: StreamID) {
    monitors[stream.rawValue]?.peer = process
  }

  /// The process that answered first, where the kernel named one.
  func peer(of side: Side) -> PeerProcess? {
    monitors[StreamID.monitor(of: side).rawValue]?.peer
  }

  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  var nextDeadline: MonotonicInstant? {
    var earliest: MonotonicInstant?
    for case let monitor? in monitors {
      guard let deadline = monitor.connection.nextDeadline else { continue }
      earliest = min(earliest ?? deadline, deadline)
    }
    return earliest
  }

  /// What has become known since the last call, in order.
  mutating func takeFacts() -> [EngineInput] {
    guard !facts.isEmpty else { return [] }
    defer { facts.removeAll(keepingCapacity: true) }
    return facts
  }

  // MARK: - Streams

  mutating func open(
    _ stream: StreamID, within limit: Span, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    onMonitor(stream, at: now, &effects) { connection, out, _ in
      connection.open(within: limit, at: now, effects: &out)
    }
  }

  mutating func close(
    _ stream: StreamID, at now: MonotonicInstant, _ effects: inout [SessionEffect]
  ) {
    onMonitor(stream, at: now, &effects) { $0.close(effects: &$1, into: &$2) }
  }

  mutating func opened(
    _ stream: StreamID, peer: PeerProcess?, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    guard let monitor = monitors[stream.rawValue] else { return }
    if let known = monitor.peer, let peer, known != peer {
      close(stream, at: now, &effects)
      if stream != .sourceOutOfBand {
        facts.append(.monitorUnavailable(stream.side, .stranger))
      }
      return
    }
    monitors[stream.rawValue]?.peer = monitor.peer ?? peer
    onMonitor(stream, at: now, &effects) { connection, _, _ in connection.opened(at: now) }
  }

  mutating func openFailed(
    _ stream: StreamID, _ failure: OpenFailure, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    onMonitor(stream, at: now, &effects) { connection, _, notices in
      connection.openFailed(failure, at: now, into: &notices)
    }
  }

  mutating func ended(
    _ stream: StreamID, withProcess: Bool, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    let isListening = monitors[stream.rawValue]?.connection.isReady == true
    if withProcess, isListening, stream != .sourceOutOfBand {
      facts.append(.heardToTheEnd(stream.side))
    }
    onMonitor(stream, at: now, &effects) { connection, _, notices in
      connection.ended(at: now, into: &notices)
    }
    noteExit(of: stream)
  }

  mutating func processExited(_ stream: StreamID) {
    monitors[stream.rawValue]?.processHasExited = true
    noteExit(of: stream)
  }

  mutating func received(
    _ bytes: UnsafeRawBufferPointer, on stream: StreamID, at now: MonotonicInstant,
    _ effects: inout [SessionEffect]
  ) {
    onMonitor(stream, at: now, &effects) {
      $0.received(bytes, at: now, effects: &$1, into: &$2)
    }
  }

  mutating func timePassed(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    for stream in StreamID.allCases {
      onMonitor(stream, at: now, &effects) { $0.timePassed(at: now, effects: &$1, into: &$2) }
    }
  }

  // MARK: - Commands

  /// Queues a command for `flush`; its reply, or its loss, becomes a fact.
  mutating func send(_ command: Command, to side: Side, at now: MonotonicInstant) {
    let id = monitors[StreamID.monitor(of: side).rawValue]?.execute(command, at: now)
    // A command that could not be written has certainly not been carried out, but saying "lost" is
    // the weaker claim, and the engine asks again.
    if id == nil { facts.append(.replied(side, command, .lost, roundTrip: .zero)) }
  }

  mutating func sendOutOfBand(_ command: Command, at now: MonotonicInstant) {
    _ = monitors[StreamID.sourceOutOfBand.rawValue]?.connection.execute(
      command.qmpName, arguments: command.qmpArguments, outOfBand: true,
      deadline: now + command.replyLimit)
  }

  /// Each side's queued commands, in one write.
  mutating func flush(at now: MonotonicInstant, _ effects: inout [SessionEffect]) {
    for stream in [StreamID.targetMonitor, .sourceMonitor, .sourceOutOfBand] {
      onMonitor(stream, at: now, &effects) { connection, out, _ in
        connection.flush(effects: &out)
      }
    }
  }

  // MARK: - Facts

  /// Lets a monitor take something, and turns what it says into effects and facts.
  private mutating func onMonitor(
    _ stream: StreamID, at now: MonotonicInstant, _ effects: inout [SessionEffect],
    _ body: (
      inout MonitorConnection, inout [MonitorConnection.Effect], inout [MonitorConnection.Notice]
    ) -> Void
  ) {
    guard monitors[stream.rawValue] != nil else { return }
    var out: [MonitorConnection.Effect] = []
    var notices: [MonitorConnection.Notice] = []
    monitors[stream.rawValue]?.change { body(&$0, &out, &notices) }
    for effect in out {
      switch effect {
      case .open(let endpoint): effects.append(.open(stream, endpoint))
      case .close: effects.append(.close(stream))
      case .write(let bytes): effects.append(.write(stream, bytes))
      }
    }
    for notice in notices {
      if stream == .sourceOutOfBand { takeOutOfBand(notice) } else { take(notice, stream, at: now) }
    }
  }

  /// The out-of-band monitor only carries commands; its events are those of the other monitor again.
  private mutating func takeOutOfBand(_ notice: MonitorConnection.Notice) {
    switch notice {
    case .ready(_, let outOfBand):
      facts.append(.outOfBandChanged(.source, isReady: outOfBand))
    case .lost, .unavailable:
      facts.append(.outOfBandChanged(.source, isReady: false))
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
      facts.append(
        .monitorReady(
          side,
          QEMURelease(
            Int(clamping: version.major), Int(clamping: version.minor),
            Int(clamping: version.micro))))
    case .reply(let id, let value):
      if side == .source, monitors[stream.rawValue]?.command(id) == .queryMigrate {
        sourceReport = value
      }
      replied(id, stream, at: now) { .answered($0.answer(value)) }
    case .commandFailed(let id, let error):
      replied(id, stream, at: now) { _ in
        .refused(Refusal(errorClass: error.errorClass, text: error.text))
      }
    case .outcomeUnknown(let id, _):
      replied(id, stream, at: now) { _ in .lost }
    case .event(let event):
      facts.append(.eventArrived(side, QEMUEvent(event), timestamp: event.timestampMicroseconds))
    case .lost:
      facts.append(.monitorLost(side))
    case .unavailable(let trouble):
      facts.append(.monitorUnavailable(side, trouble))
    }
  }

  private mutating func replied(
    _ id: QMPCommandID, _ stream: StreamID, at now: MonotonicInstant,
    _ reply: (Command) -> CommandReply
  ) {
    guard let command = monitors[stream.rawValue]?.takeCommand(id) else { return }
    facts.append(
      .replied(
        stream.side, command.command, reply(command.command), roundTrip: now - command.sentAt))
  }

  /// A process that is gone has nothing more to say once its stream has ended. What it said before
  /// counts first: a SHUTDOWN may still be on its way.
  private mutating func noteExit(of stream: StreamID) {
    guard let monitor = monitors[stream.rawValue], monitor.processHasExited,
      !monitor.exitIsReported, !monitor.connection.isReady
    else { return }
    monitors[stream.rawValue]?.exitIsReported = true
    facts.append(.processExited(stream.side))
  }
}

/// A command on its way.
private struct SentCommand {
  var id: QMPCommandID
  var command: Command
  var sentAt: MonotonicInstant
}

/// One monitor and what belongs to it.
private struct SideMonitor {
  var connection: MonitorConnection
  private var inFlight: [SentCommand] = []
  /// The QEMU that answered first; a later one at the same address is another guest's.
  var peer: PeerProcess?
  var processHasExited = false
  var exitIsReported = false

  init(_ connection: MonitorConnection) { self.connection = connection }

  mutating func change(_ body: (inout MonitorConnection) -> Void) { body(&connection) }

  mutating func execute(_ command: Command, at now: MonotonicInstant) -> QMPCommandID? {
    let id = connection.execute(
      command.qmpName, arguments: command.qmpArguments, deadline: now + command.replyLimit)
    if let id { inFlight.append(SentCommand(id: id, command: command, sentAt: now)) }
    return id
  }

  func command(_ id: QMPCommandID) -> Command? { inFlight.first { $0.id == id }?.command }

  mutating func takeCommand(_ id: QMPCommandID) -> SentCommand? {
    guard let index = inFlight.firstIndex(where: { $0.id == id }) else { return nil }
    return inFlight.remove(at: index)
  }
}

extension StreamID {
  static func monitor(of side: Side) -> StreamID {
    side == .source ? .sourceMonitor : .targetMonitor
  }
}
