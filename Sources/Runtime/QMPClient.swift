import MigrationEngine
import MigrationSession
import Platform
import QMP

/// Why a client took no command.
public enum SubmitError: Error, Equatable, Sendable {
  /// It is not connected, or not negotiated yet.
  case notReady
  /// The connection or the loop is closed.
  case closed
  case forked
  /// Out-of-band execution was not asked for or not offered.
  case outOfBandUnavailable
  /// `QMPLimits.maximumPendingCommands` wait already, or too many bytes do.
  case limit
  case system(SystemError)
}

/// The answer to a command.
public struct QMPReply: Equatable, Sendable {
  public enum Outcome: Equatable, Sendable {
    /// The return value as JSON text.
    case returned([UInt8])
    /// QEMU's error, and the error object as JSON text.
    case failed(QMPCommandError, [UInt8])
    /// No reply by the deadline: it may have been carried out.
    case timedOut
    /// The connection ended before the reply: it may have been carried out.
    case lost
  }

  public let id: UInt64
  public let outcome: Outcome

  public init(id: UInt64, outcome: Outcome) {
    self.id = id
    self.outcome = outcome
  }
}

/// Why a client's connection is over.
public enum ClientEnd: Equatable, Sendable {
  /// Another client holds the monitor.
  case busy
  /// It could not be connected; the text says why.
  case unreachable(text: String)
  /// It ended after it had been ready.
  case lost(text: String)
  case protocolViolated(text: String)
  /// The host program let more events pile up than are kept for it.
  case overflowed
}

/// A QMP client in a loop: one monitor, commands as they come, everything else as events.
public final class QMPClient: LoopMember {
  /// Events and replies that may wait to be taken, and the bytes of their JSON text.
  public static let eventLimit = 4096
  public static let eventByteLimit = 64 << 20

  /// What became of the command that `execute` waits for.
  private enum Attention: Equatable {
    case none
    case waiting(QMPCommandID)
    case answered(QMPReply)
  }

  private var connection: MonitorConnection
  private var route: Route
  private var stream: Stream?
  private var greeting: QMPGreeting?
  private var hasOutOfBand = false
  private var pendingCount = 0
  private var attention = Attention.none
  /// Commands whose callers stopped waiting; at most as many as can be pending.
  private var disregarded: Set<QMPCommandID> = []
  private var announcesReadiness: Bool

  private var effects: [MonitorConnection.Effect] = []
  private var notices: [MonitorConnection.Notice] = []

  /// Set when the connection is over for good.
  public private(set) var end: ClientEnd?

  /// Begins to connect; looking the address up may block on a name.
  ///
  /// - Parameters:
  ///   - limit: how long connecting and greeting may take.
  ///   - announces: whether the event queue is told that it is ready, or could not become so.
  public init(
    in loop: Loop, endpoint: Endpoint, wantsOutOfBand: Bool, within limit: Span, announces: Bool
  ) throws(RouteError) {
    route = try Route(to: endpoint, in: loop)
    connection = MonitorConnection(
      endpoint: endpoint, policy: .giveUp, wantsOutOfBand: wantsOutOfBand)
    announcesReadiness = announces
    super.init(in: loop)
    advance { $0.open(within: limit, at: Self.now, effects: &$1) }
    try? loop.settle()
  }

  /// What QEMU said first; nil before the client is ready.
  public var version: QMPVersion? { greeting?.version }
  public var isReady: Bool { connection.isReady }

  /// From now on the queue is told of everything.
  public func announceEverything() { announcesReadiness = true }

  /// Sends a command; its answer comes as an event with the id that is returned.
  ///
  /// - Parameters:
  ///   - limit: how long the answer may take; nil for ever.
  ///   - passed: a descriptor to travel with the command; it stays the caller's.
  public func submit(
    _ command: String, arguments: JSONObject?, outOfBand: Bool = false, within limit: Span?,
    passing passed: Int32? = nil
  ) throws(SubmitError) -> UInt64 {
    let id = try send(
      command, arguments: arguments, outOfBand: outOfBand, within: limit, passing: passed)
    try settle()
    return id.rawValue
  }

  /// Sends a command and turns the loop until its answer is there.
  ///
  /// - Returns: the answer; nil when a signal interrupted the wait, after which the answer is
  ///   dropped when it comes.
  public func execute(
    _ command: String, arguments: JSONObject?, within limit: Span, passing passed: Int32? = nil
  ) throws(SubmitError) -> QMPReply? {
    let id = try send(
      command, arguments: arguments, outOfBand: false, within: limit, passing: passed)
    if case .none = attention { attention = .waiting(id) }
    defer { attention = .none }
    do throws(LoopError) {
      // The command's own deadline ends the wait; ours only guards against its absence.
      _ = try loop?.run(forMilliseconds: (limit.milliseconds &+ 1000)) {
        if case .waiting = attention { false } else { true }
      }
    } catch {
      disregarded.insert(id)
      switch error {
      case .interrupted: return nil
      case .forked: throw .forked
      case .closed: throw .closed
      case .system(let error): throw .system(error)
      }
    }
    if case .answered(let reply) = attention { return reply }
    disregarded.insert(id)
    return QMPReply(id: id.rawValue, outcome: .timedOut)
  }

  // MARK: - What happened

  override func streamOpened(_ stream: Stream) {
    advance { connection, _ in connection.opened(at: Self.now) }
  }

  override func streamFailed(_ stream: Stream, _ failure: OpenFailure) {
    self.stream = nil
    advanceWithNotices { connection, _, notices in
      connection.openFailed(failure, at: Self.now, into: &notices)
    }
  }

  override func streamReceived(_ bytes: UnsafeRawBufferPointer, on stream: Stream) {
    advanceWithNotices { connection, effects, notices in
      connection.received(bytes, at: Self.now, effects: &effects, into: &notices)
    }
  }

  override func streamEnded(_ stream: Stream) {
    self.stream = nil
    advanceWithNotices { connection, _, notices in
      connection.ended(at: Self.now, into: &notices)
    }
  }

  override func deadlineReached() {
    advanceWithNotices { connection, effects, notices in
      connection.timePassed(at: Self.now, effects: &effects, into: &notices)
    }
  }

  override func closeStreams() {
    stream?.close()
    stream = nil
    route.close()
  }

  // MARK: - Sending

  private static var now: MonotonicInstant { MonotonicInstant(nanoseconds: MonotonicClock.now) }

  private func settle() throws(SubmitError) {
    do throws(LoopError) {
      try loop?.settle()
    } catch {
      if case .system(let error) = error { throw .system(error) }
    }
  }

  private func send(
    _ command: String, arguments: JSONObject?, outOfBand: Bool, within limit: Span?,
    passing passed: Int32?
  ) throws(SubmitError) -> QMPCommandID {
    guard let loop else { throw .closed }
    if loop.isForeign { throw .forked }
    if end != nil { throw .closed }
    guard isReady, let stream else { throw .notReady }
    guard stream.hasRoom else { throw .limit }
    if outOfBand, !hasOutOfBand { throw .outOfBandUnavailable }
    let passenger = try passed.map { number throws(SubmitError) in try Self.duplicate(number) }
    guard pendingCount < QMPLimits.standard.maximumPendingCommands,
      let id = connection.execute(
        command, arguments: arguments, outOfBand: outOfBand,
        deadline: limit.map { Self.now + $0 })
    else { throw .limit }
    pendingCount += 1
    connection.flush(effects: &effects)
    var isTaken = true
    for case .write(let bytes) in effects {
      isTaken = stream.write(bytes, passing: passenger) && isTaken
    }
    effects.removeAll(keepingCapacity: true)
    if !isTaken { finish(.overflowed) }
    loop.setDeadline(self, connection.nextDeadline?.nanoseconds)
    if !isTaken { throw .limit }
    return id
  }

  private static func duplicate(_ number: Int32) throws(SubmitError) -> Descriptor {
    do throws(SystemError) {
      return try Descriptor.duplicate(number)
    } catch {
      throw .system(error)
    }
  }

  // MARK: - Effects

  private func advance(
    _ body: (inout MonitorConnection, inout [MonitorConnection.Effect]) -> Void
  ) {
    advanceWithNotices { connection, effects, _ in body(&connection, &effects) }
  }

  private func advanceWithNotices(
    _ body: (
      inout MonitorConnection, inout [MonitorConnection.Effect],
      inout [MonitorConnection.Notice]
    ) -> Void
  ) {
    body(&connection, &effects, &notices)
    var failure: OpenFailure?
    repeat {
      failure = nil
      let orders = effects
      effects.removeAll(keepingCapacity: true)
      for order in orders { failure = carryOut(order) ?? failure }
      if let failure { connection.openFailed(failure, at: Self.now, into: &notices) }
    } while failure != nil && !effects.isEmpty
    let news = notices
    notices.removeAll(keepingCapacity: true)
    for notice in news where end == nil { take(notice) }
    loop?.setDeadline(self, end == nil ? connection.nextDeadline?.nanoseconds : nil)
  }

  /// Returns why an opening failed, if it did at once.
  private func carryOut(_ effect: MonitorConnection.Effect) -> OpenFailure? {
    switch effect {
    case .close:
      stream?.close()
      stream = nil
    case .write(let bytes):
      if stream?.write(bytes) == false { finish(.overflowed) }
    case .open:
      guard let loop else { return nil }
      do throws(OpenFailure) {
        let opened = try route.open(key: 0, member: self, loop: loop)
        stream = opened
        if opened.isOpen { connection.opened(at: Self.now) }
      } catch {
        return error
      }
    }
    return nil
  }

  // MARK: - Notices

  private func take(_ notice: MonitorConnection.Notice) {
    switch notice {
    case .ready(let greeting, let outOfBand):
      self.greeting = greeting
      hasOutOfBand = outOfBand
      if announcesReadiness { loop?.post(.clientReady, from: self) }
    case .reply(let id, let value): answer(id, .returned(JSONText.encode(value)))
    case .commandFailed(let id, let error):
      let object: JSONValue = [
        "class": .string(error.errorClass), "desc": .string(error.text),
      ]
      answer(id, .failed(error, JSONText.encode(object)))
    case .outcomeUnknown(let id, let timedOut): answer(id, timedOut ? .timedOut : .lost)
    case .event(let event): happened(event)
    case .lost: break
    case .unavailable(let trouble): finish(Self.end(of: trouble, wasReady: greeting != nil))
    }
  }

  private func answer(_ id: QMPCommandID, _ outcome: QMPReply.Outcome) {
    pendingCount -= 1
    if disregarded.remove(id) != nil { return }
    let reply = QMPReply(id: id.rawValue, outcome: outcome)
    if attention == .waiting(id) {
      attention = .answered(reply)
      return
    }
    let count =
      switch outcome {
      case .returned(let json), .failed(_, let json): json.count
      case .timedOut, .lost: 0
      }
    if hasRoom(for: count) {
      loop?.post(.replied(reply), from: self, byteCount: count)
    } else {
      // It was carried out, but its result cannot be kept: for the caller that is a lost reply.
      loop?.post(.replied(QMPReply(id: id.rawValue, outcome: .lost)), from: self)
      finish(.overflowed)
    }
  }

  private func happened(_ event: QMPEvent) {
    let json = JSONText.encode(event.data)
    guard hasRoom(for: json.count) else {
      finish(.overflowed)
      return
    }
    loop?.post(
      .happened(
        name: event.name, json: json, timestampMicroseconds: event.timestampMicroseconds),
      from: self, byteCount: json.count + event.name.utf8.count)
  }

  private func hasRoom(for byteCount: Int) -> Bool {
    queuedEvents < Self.eventLimit && queuedEventBytes + byteCount <= Self.eventByteLimit
  }

  private func finish(_ reason: ClientEnd) {
    guard end == nil else { return }
    stream?.close()
    stream = nil
    // What is still in flight is lost, and said so before the end.
    var rest: [MonitorConnection.Notice] = []
    var ignored: [MonitorConnection.Effect] = []
    connection.close(effects: &ignored, into: &rest)
    for case .outcomeUnknown(let id, _) in rest { answer(id, .lost) }
    end = reason
    loop?.setDeadline(self, nil)
    if announcesReadiness { loop?.post(.clientClosed(reason), from: self) }
  }

  private static func end(of trouble: MonitorTrouble, wasReady: Bool) -> ClientEnd {
    switch trouble {
    case .busy: .busy
    case .unreachable(let text): wasReady ? .lost(text: text) : .unreachable(text: text)
    case .protocolViolated(let text): .protocolViolated(text: text)
    case .stranger: .unreachable(text: "another process answers there now")
    }
  }
}
