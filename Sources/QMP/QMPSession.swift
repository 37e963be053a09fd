/// One QMP conversation over any stream, as a value: bytes in, notices and bytes out.
///
/// It reads no clock and opens nothing. The owner feeds it what arrived, writes what `takeOutput`
/// gives, and calls `deadlineReached` when `nextDeadlineNanoseconds` has come; spurious calls do
/// nothing. A value is used in one place: of two copies taken in the middle of a message only the
/// one that goes on first can continue, the other fails.
public struct QMPSession {
  public enum State: Sendable, Equatable {
    /// Connected; QEMU has not spoken yet (it does not, while another client holds the monitor).
    case awaitingGreeting
    /// `qmp_capabilities` is under way.
    case negotiating
    case ready
    /// The stream carried something other than QMP; the text says what.
    case failed(String)
    case ended
  }

  private struct PendingCommand {
    let id: QMPCommandID
    let deadlineNanoseconds: Int64?
    /// The command's own bytes while it is held back until the session is ready.
    var heldBack: [UInt8]?
  }

  /// The `id` of the session's own `qmp_capabilities`.
  private let negotiationID: UInt64

  public private(set) var state = State.awaitingGreeting
  /// An id that no command of this session has, for the session of the next connection.
  public var nextCommandID: UInt64 { lastID &+ 1 }

  /// Replies to commands that had timed out.
  public private(set) var lateReplies: UInt64 = 0
  /// Replies that belong to no command: an id that was never given or is used up, or none at all.
  public private(set) var unknownReplies: UInt64 = 0
  /// Messages of a kind that this version does not know; they change nothing.
  public private(set) var unknownMessages: UInt64 = 0

  private let limits: QMPLimits
  private let wantsOutOfBand: Bool
  private var reader: JSONReader
  private var greeting: QMPGreeting?
  private var usesOutOfBand = false
  private var lastID: UInt64
  /// Ordered by id.
  private var pending: [PendingCommand] = []
  /// Ordered by time-out.
  private var abandoned: [QMPCommandID] = []
  private var output: [UInt8] = []
  private var heldBackBytes = 0
  /// Bytes that came up to the greeting.
  private var earlyBytes = 0

  /// A session at the very start of a stream.
  ///
  /// QEMU sends the reply to a command of a client that has gone, and events meant for it, to the next
  /// client: ahead of the greeting, or behind it [measured on 7.2 and 10.0]. But it carries commands out
  /// one after the other, so nothing of that client can follow the answer to this session's own
  /// `qmp_capabilities`: a session that is ready hears only of itself, if it knows that answer.
  ///
  /// - Parameters:
  ///   - wantsOutOfBand: asks for out-of-band execution where the monitor offers it.
  ///   - negotiationID: the `id` of `qmp_capabilities`; one that no earlier client of this monitor has
  ///     used, whichever process it was in.
  ///   - firstCommandID: the first command's `id`; the others count on from it.
  public init(
    limits: QMPLimits = .standard, wantsOutOfBand: Bool, negotiationID: UInt64 = 0,
    firstCommandID: UInt64 = 1
  ) {
    self.negotiationID = negotiationID
    lastID = firstCommandID &- 1
    self.limits = limits
    self.wantsOutOfBand = wantsOutOfBand
    reader = JSONReader(limits: limits)
  }

  /// Takes bytes that arrived, in pieces of any size; appends what they meant.
  public mutating func received(_ bytes: UnsafeRawBufferPointer, notices: inout [QMPNotice]) {
    var position = 0
    while isUsable && position < bytes.count {
      let start = position
      let step = reader.next(in: bytes, at: &position)
      if state == .awaitingGreeting { earlyBytes += position - start }
      switch step {
      case .incomplete: return
      case .parsed(let message): interpret(JSONNode(message.root), notices: &notices)
      case .refused(let text): fail(text, notices: &notices)
      }
    }
  }

  /// Takes the end of the stream: every command in flight is lost.
  public mutating func streamEnded(notices: inout [QMPNotice]) {
    if isUsable { state = .ended }
    for command in pending { notices.append(.lost(command.id)) }
    pending = []
    abandoned = []
    output = []
    heldBackBytes = 0
  }

  /// Queues a command; its bytes appear in `takeOutput`, several commands one behind the other.
  ///
  /// Before the session is ready the command is held back until then. `deadlineNanoseconds` is an
  /// instant of the owner's monotonic clock, nil for none. Out of band a command overtakes others;
  /// QEMU allows that for few commands.
  public mutating func execute(
    _ command: String, arguments: JSONObject? = nil, outOfBand: Bool = false,
    deadlineNanoseconds: Int64?
  ) throws(QMPSessionError) -> QMPCommandID {
    guard isUsable, lastID < UInt64.max else { throw .notUsable }
    guard pending.count < limits.maximumPendingCommands else { throw .tooManyPending }
    guard !outOfBand || usesOutOfBand || state != .ready else { throw .outOfBandUnavailable }

    let id = QMPCommandID(rawValue: lastID + 1)
    var heldBack: [UInt8]?
    if state == .ready {
      let count = output.count
      Self.append(
        command, arguments: arguments, outOfBand: outOfBand, id: id.rawValue, to: &output)
      guard output.count <= limits.maximumOutputBytes else {
        output.removeLast(output.count - count)
        throw .tooMuchOutput
      }
    } else {
      var text: [UInt8] = []
      Self.append(command, arguments: arguments, outOfBand: outOfBand, id: id.rawValue, to: &text)
      guard heldBackBytes + text.count <= limits.maximumOutputBytes else { throw .tooMuchOutput }
      heldBackBytes += text.count
      heldBack = text
    }
    lastID = id.rawValue
    pending.append(
      PendingCommand(id: id, deadlineNanoseconds: deadlineNanoseconds, heldBack: heldBack))
    return id
  }

  /// The bytes to write next, empty if there are none.
  ///
  /// Commands queued since the last call come together, so that they travel in one write.
  public mutating func takeOutput() -> [UInt8] {
    guard !output.isEmpty else { return [] }
    let taken = output
    output = []
    return taken
  }

  /// Times out every command whose deadline is not after `nowNanoseconds`.
  public mutating func deadlineReached(nowNanoseconds: Int64, notices: inout [QMPNotice]) {
    guard let next = nextDeadlineNanoseconds, next <= nowNanoseconds else { return }
    pending.removeAll { command in
      guard let deadline = command.deadlineNanoseconds, deadline <= nowNanoseconds else {
        return false
      }
      if let heldBack = command.heldBack {
        heldBackBytes -= heldBack.count
      } else {
        abandoned.append(command.id)
      }
      notices.append(.timedOut(command.id))
      return true
    }
    if abandoned.count > limits.maximumAbandoned {
      abandoned.removeFirst(abandoned.count - max(limits.maximumAbandoned, 0))
    }
  }

  /// The earliest deadline of a waiting command, nil if there is none.
  public var nextDeadlineNanoseconds: Int64? {
    var earliest: Int64?
    for command in pending {
      guard let deadline = command.deadlineNanoseconds else { continue }
      earliest = min(earliest ?? deadline, deadline)
    }
    return earliest
  }
}

// MARK: - Limits

extension QMPSession {
  /// Whether all that the session keeps stays within its limits, as its tests assert at every step.
  var isWithinLimits: Bool {
    // The value that went over a limit has been counted; the session's own command is not limited.
    let message = reader.usage
    let negotiationBytes = 80
    return message.bytes <= limits.maximumLineBytes && message.depth <= limits.depth + 1
      && message.values <= limits.maximumValues + 1
      && pending.count <= limits.maximumPendingCommands
      && abandoned.count <= limits.maximumAbandoned
      && output.count <= limits.maximumOutputBytes + negotiationBytes
      && heldBackBytes <= limits.maximumOutputBytes
      && heldBackBytes == pending.reduce(0) { $0 + ($1.heldBack?.count ?? 0) }
  }
}

// MARK: - Messages

extension QMPSession {
  private var isUsable: Bool {
    switch state {
    case .awaitingGreeting, .negotiating, .ready: true
    case .failed, .ended: false
    }
  }

  private mutating func fail(_ text: String, notices: inout [QMPNotice]) {
    state = .failed(text)
    output = []
    notices.append(.protocolViolated(text))
  }

  private mutating func interpret(_ message: JSONNode, notices: inout [QMPNotice]) {
    if state == .awaitingGreeting { return interpretFirst(message, notices: &notices) }
    let result = message.member("return")
    let error = message.member("error")
    switch (message.member("event"), result, error) {
    case (let event?, nil, nil):
      happened(event, message: message, notices: &notices)
    case (nil, let result?, nil):
      guard let id = settle(message.member("id")) else { return }
      if id.rawValue == negotiationID { return negotiated(notices: &notices) }
      guard let value = result.value else {
        // Taken out of the waiting commands above; its outcome must not go unreported.
        notices.append(.lost(id))
        return fail(JSONNode.unrepresentable, notices: &notices)
      }
      notices.append(.reply(id, value))
    case (nil, nil, let error?):
      guard let id = settle(message.member("id")) else { return }
      refused(id, error: error, notices: &notices)
    default:
      // Neither event nor reply, or several at once: nothing that this version can act on.
      unknownMessages += 1
    }
  }

  /// The greeting, or what was meant for the client before, which means nothing here: QEMU is asked
  /// anew once the session is ready.
  private mutating func interpretFirst(_ message: JSONNode, notices: inout [QMPNotice]) {
    let isEvent = message.member("event")?.string != nil
    let isReply = message.member("return") != nil || message.member("error")?.isObject == true
    guard message.member("QMP") == nil, isEvent != isReply else {
      return greeted(message.member("QMP"), notices: &notices)
    }
    guard earlyBytes <= limits.maximumEarlyBytes else {
      return fail(
        "no QMP greeting within \(limits.maximumEarlyBytes) bytes", notices: &notices)
    }
    if isReply { unknownReplies += 1 } else { unknownMessages += 1 }
  }

  private mutating func greeted(_ hello: JSONNode?, notices: inout [QMPNotice]) {
    guard let hello, hello.isObject else {
      return fail("the first message is no QMP greeting", notices: &notices)
    }
    let version = hello.member("version")
    let numbers = version?.member("qemu")
    guard let major = numbers?.member("major")?.integer?.int64,
      let minor = numbers?.member("minor")?.integer?.int64,
      let micro = numbers?.member("micro")?.integer?.int64
    else {
      return fail("the QMP greeting names no version", notices: &notices)
    }
    let greeting = QMPGreeting(
      version: QMPVersion(
        major: major, minor: minor, micro: micro,
        package: version?.member("package")?.string ?? ""),
      offersOutOfBand: hello.member("capabilities")?.contains("oob") ?? false)
    self.greeting = greeting
    usesOutOfBand = wantsOutOfBand && greeting.offersOutOfBand
    state = .negotiating
    Self.append(
      "qmp_capabilities", arguments: usesOutOfBand ? ["enable": ["oob"]] : nil, outOfBand: false,
      id: negotiationID, to: &output)
  }

  private mutating func negotiated(notices: inout [QMPNotice]) {
    guard let greeting else { return }
    state = .ready
    for index in pending.indices {
      output.append(contentsOf: pending[index].heldBack ?? [])
      pending[index].heldBack = nil
    }
    heldBackBytes = 0
    notices.append(.ready(greeting, outOfBand: usesOutOfBand))
  }

  private mutating func refused(
    _ id: QMPCommandID, error: JSONNode, notices: inout [QMPNotice]
  ) {
    let error = QMPCommandError(
      errorClass: error.member("class")?.string ?? "", text: error.member("desc")?.string ?? "")
    if id.rawValue == negotiationID {
      return fail("QEMU refused 'qmp_capabilities': \(error.text)", notices: &notices)
    }
    notices.append(.commandFailed(id, error))
  }

  private mutating func happened(
    _ event: JSONNode, message: JSONNode, notices: inout [QMPNotice]
  ) {
    guard let name = event.string else {
      unknownMessages += 1
      return
    }
    // A missing member reads as null, which is what an event without data has.
    guard let data = (message.member("data") ?? JSONNode(nil)).value else {
      return fail(JSONNode.unrepresentable, notices: &notices)
    }
    notices.append(
      .event(
        QMPEvent(
          name: name, data: data,
          timestampMicroseconds: Self.microseconds(message.member("timestamp")))))
  }

  /// The command that a reply belongs to, which waits no longer; nil, and counted, if none does.
  private mutating func settle(_ id: JSONNode?) -> QMPCommandID? {
    guard let number = id?.integer?.uint64 else {
      unknownReplies += 1
      return nil
    }
    let id = QMPCommandID(rawValue: number)
    if number == negotiationID && state == .negotiating { return id }
    if let index = pending.firstIndex(where: { $0.id == id }), pending[index].heldBack == nil {
      pending.remove(at: index)
      return id
    }
    if let index = abandoned.firstIndex(of: id) {
      abandoned.remove(at: index)
      lateReplies += 1
    } else {
      unknownReplies += 1
    }
    return nil
  }

  /// QEMU's `{"seconds": s, "microseconds": u}`; nil where it has no meaning (−1 is "unknown").
  private static func microseconds(_ timestamp: JSONNode?) -> Int64? {
    guard let seconds = timestamp?.member("seconds")?.integer?.int64,
      let microseconds = timestamp?.member("microseconds")?.integer?.int64,
      seconds >= 0, (0..<1_000_000).contains(microseconds)
    else { return nil }
    let (whole, tooLarge) = seconds.multipliedReportingOverflow(by: 1_000_000)
    let (sum, overflow) = whole.addingReportingOverflow(microseconds)
    return tooLarge || overflow ? nil : sum
  }

  private static func append(
    _ command: String, arguments: JSONObject?, outOfBand: Bool, id: UInt64,
    to text: inout [UInt8]
  ) {
    JSONText.append(literal: outOfBand ? "{\"exec-oob\":" : "{\"execute\":", to: &text)
    JSONText.append(quoted: command, to: &text)
    if let arguments {
      JSONText.append(literal: ",\"arguments\":", to: &text)
      JSONText.append(arguments, to: &text)
    }
    JSONText.append(literal: ",\"id\":", to: &text)
    JSONText.append(id, to: &text)
    JSONText.append(literal: "}\n", to: &text)
  }
}
