import Foundation
import Glibc

/// The harness's own connection to a QEMU: for steps by hand, and as an independent witness.
///
/// It shares no code with the library under test. A thread reads and stamps everything that QEMU
/// says; commands block their caller.
public final class HarnessMonitor: Sendable {
  /// An event that QEMU sent.
  public struct Event: Sendable {
    public let name: String
    public let data: JSONValue
    /// When QEMU says that it happened, in microseconds since 1970.
    public let timestampMicroseconds: Int64
    /// When it was read here.
    public let arrival: MonotonicTime
  }

  /// QEMU's refusal of a command.
  public struct CommandError: Error, CustomStringConvertible, Sendable {
    public let command: String
    public let errorClass: String
    public let message: String
    public var description: String { "'\(command)': \(message) (\(errorClass))" }
  }

  fileprivate struct State {
    var greeting: JSONValue?
    var replies: [Int64: JSONValue] = [:]
    var events: [Event] = []
    var nextIdentifier: Int64 = 1
    var isClosed = false
  }

  /// How long an ordinary command may take; generous, for the machine may be loaded.
  public static let commandLimit = Duration.seconds(60)

  private let descriptor: Int32
  private let state = Guarded(State())
  private let readerEnded = Guarded(false)

  /// Takes over a connected descriptor and negotiates, with out-of-band commands if asked.
  init(descriptor: Int32, outOfBand: Bool = false) throws {
    self.descriptor = descriptor
    let (state, readerEnded) = (state, readerEnded)
    let thread = Thread {
      Self.readMessages(descriptor, state)
      readerEnded.withLock { $0 = true }
    }
    thread.start()
    let greeted = state.wait(upTo: Self.commandLimit) {
      $0.greeting != nil || $0.isClosed ? true : nil
    }
    guard greeted != nil, state.withLock({ $0.greeting != nil }) else {
      throw HarnessError("no greeting from QEMU")
    }
    _ = try execute("qmp_capabilities", outOfBand ? ["enable": ["oob"]] : [:])
  }

  /// Connects to a monitor that listens.
  public convenience init(_ endpoint: Endpoint, outOfBand: Bool = false) throws {
    let descriptor = endpoint.connect()
    guard descriptor >= 0 else { throw HarnessError.system("connect to \(endpoint)", code: errno) }
    try self.init(descriptor: descriptor, outOfBand: outOfBand)
  }

  deinit {
    close()
    // The reader uses the descriptor's number: it must be gone before the number is free again.
    _ = readerEnded.wait(upTo: .seconds(60)) { $0 ? true : nil }
    Glibc.close(descriptor)
  }

  /// Ends the connection.
  public func close() {
    shutdown(descriptor, Int32(SHUT_RDWR))
  }

  /// Whether QEMU or this side has ended the connection.
  public var isClosed: Bool {
    state.withLock { $0.isClosed }
  }

  /// Waits until the connection has ended.
  public func waitForClose(upTo limit: Duration = commandLimit) -> Bool {
    state.wait(upTo: limit) { $0.isClosed ? true : nil } ?? false
  }

  /// Sends a command and returns what QEMU returns; an error reply is a `CommandError`.
  @discardableResult
  public func execute(
    _ command: String, _ arguments: JSONValue = [:], outOfBand: Bool = false,
    upTo limit: Duration = commandLimit
  ) throws -> JSONValue {
    let identifier = try send(command, arguments, outOfBand: outOfBand)
    return try waitForReply(to: identifier, of: command, upTo: limit)
  }

  /// Sends a command without waiting; the result names it to `waitForReply`.
  public func send(
    _ command: String, _ arguments: JSONValue = [:], outOfBand: Bool = false
  ) throws -> Int64 {
    let identifier = state.withLock { state in
      defer { state.nextIdentifier += 1 }
      return state.nextIdentifier
    }
    var members: [String: JSONValue] = ["id": .integer(identifier)]
    members[outOfBand ? "exec-oob" : "execute"] = .string(command)
    if arguments != [:] { members["arguments"] = arguments }
    try write(JSONValue.object(members).text + Data("\n".utf8))
    return identifier
  }

  /// Waits for the reply to a command that was sent.
  public func waitForReply(
    to identifier: Int64, of command: String, upTo limit: Duration = commandLimit
  ) throws -> JSONValue {
    let reply = state.wait(upTo: limit) { state -> JSONValue?? in
      if let reply = state.replies.removeValue(forKey: identifier) { return .some(reply) }
      return state.isClosed ? .some(nil) : nil
    }
    guard let reply = reply ?? nil else {
      throw HarnessError("'\(command)': \(isClosed ? "QEMU closed the monitor" : "no reply")")
    }
    if let error = reply["error"] {
      throw CommandError(
        command: command, errorClass: error["class"]?.string ?? "",
        message: error["desc"]?.string ?? "")
    }
    return reply["return"] ?? .null
  }

  /// Everything that has been announced so far, oldest first.
  public var events: [Event] {
    state.withLock { $0.events }
  }

  /// Waits for an event, by default one at any time since the connection began.
  @discardableResult
  public func waitForEvent(
    _ name: String, after count: Int = 0, upTo limit: Duration = commandLimit,
    where matches: (JSONValue) -> Bool = { _ in true }
  ) throws -> Event {
    let event = state.wait(upTo: limit) { state -> Event?? in
      if let event = state.events.dropFirst(count).first(where: {
        $0.name == name && matches($0.data)
      }) {
        return .some(event)
      }
      return state.isClosed ? .some(nil) : nil
    }
    guard let event = event ?? nil else {
      let seen = events.map { "\($0.name) \($0.data["status"]?.string ?? "")" }
      throw HarnessError(
        "no event \(name)\(isClosed ? " before QEMU closed the monitor" : ""); seen: \(seen)")
    }
    return event
  }

  /// Waits until the migration has had one of some statuses; needs the capability `events`.
  ///
  /// A migration that ends otherwise is an error at once.
  @discardableResult
  public func waitForMigration(
    _ statuses: String..., after count: Int = 0, upTo limit: Duration = commandLimit
  ) throws -> Event {
    let awaited = Set(statuses)
    let event = try waitForEvent("MIGRATION", after: count, upTo: limit) {
      let status = $0["status"]?.string ?? ""
      return awaited.contains(status) || Self.lastStatuses.contains(status)
    }
    guard let status = event.data["status"]?.string, awaited.contains(status) else {
      throw HarnessError("the migration went to \(event.data) and not to \(awaited.sorted())")
    }
    return event
  }

  /// Migration statuses that no other follows.
  private static let lastStatuses: Set = ["completed", "failed", "cancelled"]

  /// The run state that `query-status` names.
  public func runState() throws -> String {
    try execute("query-status")["status"]?.string ?? ""
  }

  /// Waits until `query-status` names a run state, for those that no event announces.
  ///
  /// `postmigrate` is one: it comes a little after `completed`, and QEMU refuses `cont` before.
  public func waitForRunState(_ state: String, upTo limit: Duration = commandLimit) throws {
    let deadline = MonotonicTime.now + limit
    var current = try runState()
    while current != state {
      guard .now < deadline else { throw HarnessError("the run state is \(current), not \(state)") }
      usleep(1000)
      current = try runState()
    }
  }

  /// The migration status that `query-migrate` names, or an empty text if there was none.
  public func migrationStatus() throws -> String {
    try execute("query-migrate")["status"]?.string ?? ""
  }

  /// Switches migration capabilities on or off.
  public func setCapabilities(_ capabilities: [String: Bool]) throws {
    let list = capabilities.sorted { $0.key < $1.key }.map {
      JSONValue.object(["capability": .string($0.key), "state": .bool($0.value)])
    }
    try execute("migrate-set-capabilities", ["capabilities": .array(list)])
  }

  private func write(_ data: Data) throws {
    var rest = data[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw HarnessError.system("send to the monitor", code: errno) }
      rest = rest.dropFirst(count)
    }
  }

  private static func readMessages(_ descriptor: Int32, _ state: Guarded<State>) {
    var pending = Data()
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = buffer.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
      guard count > 0 else { break }
      let arrival = MonotonicTime.now
      pending += buffer[..<count]
      while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
        if let message = try? JSONValue(text: Data(pending[..<end])) {
          state.withLock { $0.record(message, arrival) }
        }
        pending = Data(pending[(end + 1)...])
      }
    }
    state.withLock { $0.isClosed = true }
  }
}

extension HarnessMonitor.State {
  fileprivate mutating func record(_ message: JSONValue, _ arrival: MonotonicTime) {
    if let greeting = message["QMP"] {
      self.greeting = greeting
    } else if let name = message["event"]?.string {
      let time = message["timestamp"]
      let seconds = time?["seconds"]?.integer ?? 0
      events.append(
        HarnessMonitor.Event(
          name: name, data: message["data"] ?? .null,
          timestampMicroseconds: seconds * 1_000_000 + (time?["microseconds"]?.integer ?? 0),
          arrival: arrival))
    } else if let identifier = message["id"]?.integer {
      replies[identifier] = message
    }
  }
}
