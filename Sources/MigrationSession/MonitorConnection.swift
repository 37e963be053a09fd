import MigrationEngine
import QMP

/// One QMP monitor: its connection, its greeting, and what happens when either is lost.
///
/// The same value serves a migration, which wants a lost monitor back, and a plain client, which does
/// not. It opens nothing by itself: it asks by `Effect` and is told what became of it.
public struct MonitorConnection {
  public enum Effect: Hashable, Sendable {
    case open(Endpoint)
    case close
    case write([UInt8])
  }

  public enum Notice: Sendable {
    case ready(QMPGreeting, outOfBand: Bool)
    case reply(QMPCommandID, JSONValue)
    case commandFailed(QMPCommandID, QMPCommandError)
    /// No reply by its deadline, or the connection ended: it may have been carried out.
    case outcomeUnknown(QMPCommandID, timedOut: Bool)
    case event(QMPEvent)
    /// The connection ended; it is being opened again where the policy says so.
    case lost
    /// It was given up; nothing more comes until `open`.
    case unavailable(MonitorTrouble)
  }

  /// What to do about a monitor that cannot be opened, or is lost.
  public enum Policy: Hashable, Sendable {
    case giveUp
    /// A lost monitor is tried again for this long.
    case reconnect(within: Span)
  }

  private enum State {
    case closed
    case opening
    /// Connected; the greeting has not come.
    case greeting
    case ready
    /// To be opened again at this instant.
    case waiting(until: MonotonicInstant)
  }

  /// QEMU takes its listener up again a moment after a client has gone.
  static let retryInterval = Span.milliseconds(20)

  private let endpoint: Endpoint
  private let policy: Policy
  private let wantsOutOfBand: Bool
  private var session: QMPSession
  private var state = State.closed
  private var deadline: MonotonicInstant?
  private var hasBeenReady = false
  private var lastReason = "no answer"
  private var metQueue = false
  private var notices: [QMPNotice] = []

  public init(endpoint: Endpoint, policy: Policy, wantsOutOfBand: Bool = false) {
    self.endpoint = endpoint
    self.policy = policy
    self.wantsOutOfBand = wantsOutOfBand
    session = QMPSession(wantsOutOfBand: wantsOutOfBand)
  }

  public var isReady: Bool { if case .ready = state { true } else { false } }
  public var isClosed: Bool { if case .closed = state { true } else { false } }

  /// Opens it; `ready` or `unavailable` follows by `limit`.
  public mutating func open(
    within limit: Span, at now: MonotonicInstant, effects: inout [Effect]
  ) {
    guard isClosed else { return }
    deadline = now + limit
    begin(at: now, &effects)
  }

  /// Lets go of it: it is reported as lost, then its commands in flight, and nothing else follows.
  public mutating func close(effects: inout [Effect], into out: inout [Notice]) {
    switch state {
    case .closed: return
    case .waiting: break
    case .opening, .greeting, .ready: effects.append(.close)
    }
    if isReady { out.append(.lost) }
    endSession(&out)
    state = .closed
    deadline = nil
  }

  public mutating func opened(at now: MonotonicInstant) {
    guard case .opening = state else { return }
    state = .greeting
  }

  public mutating func openFailed(
    _ failure: OpenFailure, at now: MonotonicInstant, into out: inout [Notice]
  ) {
    switch state {
    case .opening, .greeting: break
    case .closed, .ready, .waiting: return
    }
    switch failure {
    case .refused: lastReason = "connection refused: no QEMU listens there"
    case .missing: lastReason = "no such socket"
    case .queueFull:
      lastReason = "its queue is full"
      metQueue = true
    case .other(let text): lastReason = text
    }
    let mayHelp: Bool =
      switch failure {
      case .queueFull: true
      case .refused, .missing, .other: hasBeenReady
      }
    if mayHelp { retryOrGiveUp(at: now, &out) } else { giveUp(&out) }
  }

  /// End of file, or an error that ended the stream; the driver has closed it.
  public mutating func ended(at now: MonotonicInstant, into out: inout [Notice]) {
    switch state {
    case .closed, .waiting: return
    case .opening, .greeting, .ready: break
    }
    let wasReady = isReady
    if wasReady { out.append(.lost) }
    endSession(&out)
    lastReason = "the connection ended"
    if wasReady {
      if case .reconnect(let span) = policy { deadline = now + span }
    }
    if case .descriptor = endpoint {
      giveUp(&out)
    } else if policy == .giveUp {
      giveUp(&out)
    } else {
      retryOrGiveUp(at: now, &out)
    }
  }

  public mutating func received(
    _ bytes: UnsafeRawBufferPointer, at now: MonotonicInstant, effects: inout [Effect],
    into out: inout [Notice]
  ) {
    session.received(bytes, notices: &notices)
    drain(at: now, effects: &effects, into: &out)
  }

  /// Queues a command; nil when the session takes none now.
  public mutating func execute(
    _ command: String, arguments: JSONObject? = nil, outOfBand: Bool = false,
    deadline: MonotonicInstant?
  ) -> QMPCommandID? {
    guard isReady else { return nil }
    return try? session.execute(
      command, arguments: arguments, outOfBand: outOfBand,
      deadlineNanoseconds: deadline?.nanoseconds)
  }

  /// Bytes of the commands queued since the last call, all in one write.
  public mutating func flush(effects: inout [Effect]) {
    let output = session.takeOutput()
    if !output.isEmpty { effects.append(.write(output)) }
  }

  public mutating func timePassed(
    at now: MonotonicInstant, effects: inout [Effect], into out: inout [Notice]
  ) {
    session.deadlineReached(nowNanoseconds: now.nanoseconds, notices: &notices)
    drain(at: now, effects: &effects, into: &out)
    // What the last attempt met is the reason where there is no time for another.
    if case .waiting(let instant) = state, instant <= now, deadline.map({ now < $0 }) ?? true {
      begin(at: now, &effects)
    }
    guard let deadline, deadline <= now, !isReady, !isClosed else { return }
    switch state {
    case .opening, .greeting: effects.append(.close)
    default: break
    }
    if case .greeting = state { metQueue = true }
    endSession(&out)
    giveUp(&out)
  }

  public var nextDeadline: MonotonicInstant? {
    var next = isReady ? nil : deadline
    if case .waiting(let instant) = state { next = min(next ?? instant, instant) }
    if let command = session.nextDeadlineNanoseconds {
      let instant = MonotonicInstant(nanoseconds: command)
      next = min(next ?? instant, instant)
    }
    return next
  }

  // MARK: - Private

  private mutating func begin(at now: MonotonicInstant, _ effects: inout [Effect]) {
    // The instant tells this negotiation from that of every earlier client, also of one in another
    // process. Commands have short ids, for QEMU takes its time with every byte.
    session = QMPSession(
      wantsOutOfBand: wantsOutOfBand, negotiationID: UInt64(clamping: now.nanoseconds),
      firstCommandID: session.nextCommandID)
    metQueue = false
    state = .opening
    effects.append(.open(endpoint))
  }

  private mutating func endSession(_ out: inout [Notice]) {
    session.streamEnded(notices: &notices)
    forward(&out)
  }

  private mutating func drain(
    at now: MonotonicInstant, effects: inout [Effect], into out: inout [Notice]
  ) {
    var violation: String?
    for notice in notices {
      if case .protocolViolated(let text) = notice { violation = text }
      if case .ready = notice {
        state = .ready
        hasBeenReady = true
        deadline = nil
      }
    }
    forward(&out)
    flush(effects: &effects)
    guard let violation else { return }
    effects.append(.close)
    out.append(.lost)
    endSession(&out)
    state = .closed
    deadline = nil
    out.append(.unavailable(.protocolViolated(text: violation)))
  }

  private mutating func forward(_ out: inout [Notice]) {
    for notice in notices {
      switch notice {
      case .ready(let greeting, let outOfBand): out.append(.ready(greeting, outOfBand: outOfBand))
      case .reply(let id, let value): out.append(.reply(id, value))
      case .commandFailed(let id, let error): out.append(.commandFailed(id, error))
      case .timedOut(let id): out.append(.outcomeUnknown(id, timedOut: true))
      case .lost(let id): out.append(.outcomeUnknown(id, timedOut: false))
      case .event(let event): out.append(.event(event))
      case .protocolViolated: break
      }
    }
    notices.removeAll(keepingCapacity: true)
  }

  private mutating func retryOrGiveUp(at now: MonotonicInstant, _ out: inout [Notice]) {
    guard let deadline, now < deadline else {
      giveUp(&out)
      return
    }
    state = .waiting(until: now + Self.retryInterval)
  }

  private mutating func giveUp(_ out: inout [Notice]) {
    state = .closed
    deadline = nil
    out.append(.unavailable(metQueue ? .busy : .unreachable(text: lastReason)))
  }
}
