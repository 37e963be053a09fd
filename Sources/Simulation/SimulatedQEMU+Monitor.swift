import MigrationEngine
import QMP

/// One monitor socket: a client, and those who wait for it to go.
struct SimulatedMonitor: Sendable {
  /// The listening socket's queue holds two; a third `connect` is refused by the kernel.
  static let maximumWaiting = 2

  var client: Int?
  var waiting: [Int] = []
  /// The main loop is to look at the listener.
  var wantsAccept = false
  var isNegotiated = false
  var isOutOfBand = false
  var splitter = CommandSplitter()
  /// Commands of this client that wait for the main loop.
  var queued = 0
  var lastDueAt = MonotonicInstant(nanoseconds: 0)
}

/// A command that has been read.
struct QueuedCommand: Sendable {
  var client: Int?
  var monitor: Int
  var request: QMPRequest
  var dueAt: MonotonicInstant
}

/// A line of a client, as QEMU understands it before it looks for the command.
struct QMPRequest: Sendable {
  var name = ""
  var arguments = JSONObject()
  var id: JSONValue?
  var isOutOfBand = false
  var refusal: QMPCommandError?
}

extension SimulatedQEMU {
  // MARK: - Clients

  /// Whether a `connect` succeeds; false when the listener's queue is full.
  public func takesClient(ofMonitor index: Int) -> Bool {
    isAlive && monitors[index].waiting.count < SimulatedMonitor.maximumWaiting
  }

  func clientConnected(_ client: Int, _ monitor: Int) {
    monitors[monitor].waiting.append(client)
    wake(.accept(monitor: monitor), after: configuration.timing.accept)
  }

  /// The listener is served by the main loop.
  func acceptClients() {
    for index in monitors.indices where monitors[index].wantsAccept && isMainLoopFree() {
      monitors[index].wantsAccept = false
      accept(index)
    }
  }

  private func accept(_ index: Int) {
    guard monitors[index].client == nil, let client = monitors[index].waiting.first else { return }
    var monitor = SimulatedMonitor()
    monitor.waiting = Array(monitors[index].waiting.dropFirst())
    monitor.client = client
    monitors[index] = monitor
    effects.append(.send(client: client, QEMUText.line(["QMP": .object(greeting)])))
    let early = earlyBytes.filter { $0.client == client }
    earlyBytes.removeAll { $0.client == client }
    for piece in early { clientSent(client, piece.bytes) }
  }

  private var greeting: JSONObject {
    ["version": .object(version), "capabilities": ["oob"]]
  }

  var version: JSONObject {
    let numbers = configuration.release.numbers
    return [
      "qemu": [
        "micro": .integer(numbers.micro), "minor": .integer(numbers.minor),
        "major": .integer(numbers.major),
      ],
      "package": .string("simulated"),
    ]
  }

  func clientLeft(_ client: Int) {
    earlyBytes.removeAll { $0.client == client }
    for index in monitors.indices {
      monitors[index].waiting.removeAll { $0 == client }
      guard monitors[index].client == client else { continue }
      // What it had queued and was not carried out yet is dropped.
      commands.removeAll { $0.client == client }
      monitors[index].client = nil
      monitors[index].isNegotiated = false
      wake(.accept(monitor: index), after: configuration.timing.accept)
    }
  }

  func clientSent(_ client: Int, _ bytes: [UInt8]) {
    guard let index = monitors.firstIndex(where: { $0.client == client }) else {
      // Nobody reads it before it is accepted.
      earlyBytes.append((client, bytes))
      return
    }
    let requests = monitors[index].splitter.take(bytes)
    let reading = Span(
      nanoseconds: configuration.timing.commandByte.nanoseconds * Int64(bytes.count))
    for request in requests {
      if request.isOutOfBand, request.refusal == nil, monitors[index].isOutOfBand,
        monitors[index].queued < Self.queueLimit
      {
        execute(request, client: client, monitor: index)
        continue
      }
      let after = max(monitorReadyAt, now) + reading + configuration.timing.command
      monitorReadyAt = after
      monitors[index].queued += 1
      // One monitor's commands keep their order.
      monitors[index].lastDueAt = max(monitors[index].lastDueAt, after + streamingDelay())
      commands.append(
        QueuedCommand(
          client: client, monitor: index, request: request, dueAt: monitors[index].lastDueAt))
    }
  }

  /// With more commands queued a monitor reads on no more, out of band neither.
  static let queueLimit = 8

  /// While RAM streams in, the target's main loop is mostly busy with it.
  private func streamingDelay() -> Span {
    guard incoming.isStreaming else { return .zero }
    let most = configuration.timing.commandWhileStreaming.nanoseconds
    return Span(nanoseconds: random.number(in: 0...max(most, 0)))
  }

  // MARK: - Commands

  func ownerCommand(_ name: String, _ arguments: JSONObject) {
    commands.append(
      QueuedCommand(
        client: nil, monitor: 0, request: QMPRequest(name: name, arguments: arguments), dueAt: now))
  }

  /// Carries out what is due, one after the other, as long as the main loop is free.
  func dispatchCommands() {
    acceptClients()
    while isMainLoopFree(), !isDispatching,
      let index = commands.indices.min(by: { commands[$0].dueAt < commands[$1].dueAt })
    {
      let command = commands[index]
      guard command.dueAt <= now else {
        wakeForCommands(at: command.dueAt)
        return
      }
      commands.remove(at: index)
      if command.client != nil { monitors[command.monitor].queued -= 1 }
      execute(command.request, client: command.client, monitor: command.monitor)
    }
  }

  private func execute(_ request: QMPRequest, client: Int?, monitor: Int) {
    do throws(QMPCommandError) {
      if let refusal = request.refusal { throw refusal }
      if let client, !monitors[monitor].isNegotiated {
        try negotiate(request, client: client, monitor: monitor)
        return
      }
      var arguments = CommandArguments(request.arguments)
      if let value = try carryOut(request, &arguments, client: client, monitor: monitor) {
        effects.append(
          .carriedOut(request.name, request.arguments, client: client, refused: false))
        reply(to: client, request.id, value)
      }
    } catch {
      effects.append(.carriedOut(request.name, request.arguments, client: client, refused: true))
      refuse(client, request.id, error)
    }
  }

  private func negotiate(
    _ request: QMPRequest, client: Int, monitor: Int
  ) throws(QMPCommandError) {
    guard request.name == "qmp_capabilities" else {
      throw QMPCommandError(
        errorClass: "CommandNotFound",
        text: "Expecting capabilities negotiation with 'qmp_capabilities'")
    }
    let enabled = request.arguments["enable"]?.array ?? []
    for capability in enabled where capability.string != "oob" {
      throw .generic("Parameter 'null' does not accept value '\(capability.string ?? "")'")
    }
    monitors[monitor].isNegotiated = true
    monitors[monitor].isOutOfBand = !enabled.isEmpty
    reply(to: client, request.id, [:])
  }

  func reply(to client: Int?, _ id: JSONValue?, _ value: JSONValue) {
    guard let client else { return }
    var line: JSONObject = ["return": value]
    if let id { line["id"] = id }
    effects.append(.send(client: client, QEMUText.line(line)))
  }

  func refuse(_ client: Int?, _ id: JSONValue?, _ error: QMPCommandError) {
    guard let client else { return }
    var line = JSONObject()
    if let id { line["id"] = id }
    line["error"] = ["class": .string(error.errorClass), "desc": .string(error.text)]
    effects.append(.send(client: client, QEMUText.line(line)))
  }
}

extension QMPCommandError {
  static func generic(_ text: String) -> QMPCommandError {
    QMPCommandError(errorClass: "GenericError", text: text)
  }
}

/// Cuts what a client sends into commands.
struct CommandSplitter: Sendable {
  private var text: [UInt8] = []
  private var depth = 0
  private var isInString = false
  private var isEscaped = false

  mutating func take(_ bytes: [UInt8]) -> [QMPRequest] {
    var requests: [QMPRequest] = []
    for byte in bytes {
      guard depth > 0 || byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") else { continue }
      text.append(byte)
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          isInString = false
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""): isInString = true
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        if depth == 0 {
          requests.append(Self.understand(text))
          text.removeAll(keepingCapacity: true)
        }
      default: break
      }
    }
    return requests
  }

  private static func understand(_ text: [UInt8]) -> QMPRequest {
    var request = QMPRequest()
    guard let value = text.withUnsafeBytes({ try? JSONText.decode($0) }) else {
      request.refusal = .generic("JSON parse error, expecting value")
      return request
    }
    do throws(QMPCommandError) {
      try read(value, into: &request)
    } catch {
      request.refusal = error
    }
    return request
  }

  private static func read(
    _ value: JSONValue, into request: inout QMPRequest
  ) throws(QMPCommandError) {
    guard let object = value.object else { throw .generic("QMP input must be a JSON object") }
    request.id = object["id"]
    for member in object {
      switch member.name {
      case "id": break
      case "execute", "exec-oob":
        guard request.name.isEmpty else {
          throw .generic("QMP input member 'execute' clashes with 'exec-oob'")
        }
        guard let name = member.value.string else {
          throw .generic("QMP input member '\(member.name)' must be a string")
        }
        request.name = name
        request.isOutOfBand = member.name == "exec-oob"
      case "arguments":
        guard let arguments = member.value.object else {
          throw .generic("QMP input member 'arguments' must be an object")
        }
        request.arguments = arguments
      default:
        throw .generic("QMP input member '\(member.name)' is unexpected")
      }
    }
    guard !request.name.isEmpty else { throw .generic("QMP input lacks member 'execute'") }
    if request.isOutOfBand, !QEMUVocabulary.outOfBandCommands.contains(request.name) {
      // Whether it exists at all is looked up first.
      let known = SimulatedRelease.allCases.contains {
        QEMUVocabulary.commands(of: $0).contains(request.name)
      }
      if known { throw .generic("The command \(request.name) does not support OOB") }
      throw .notFound(request.name)
    }
  }
}

extension QMPCommandError {
  static func notFound(_ name: String) -> QMPCommandError {
    QMPCommandError(
      errorClass: "CommandNotFound", text: "The command \(name) has not been found")
  }
}

/// The arguments of one command, read in the order in which QEMU's schema has them.
struct CommandArguments {
  let object: JSONObject
  private var read: [String] = []

  init(_ object: JSONObject) { self.object = object }

  private mutating func value(_ name: String) -> JSONValue? {
    read.append(name)
    return object[name]
  }

  mutating func optionalString(_ name: String) throws(QMPCommandError) -> String? {
    guard let value = value(name) else { return nil }
    guard let text = value.string else { throw Self.wrongType(name, "string") }
    return text
  }

  mutating func string(_ name: String) throws(QMPCommandError) -> String {
    guard let text = try optionalString(name) else { throw Self.missing(name) }
    return text
  }

  mutating func optionalBool(_ name: String) throws(QMPCommandError) -> Bool? {
    guard let value = value(name) else { return nil }
    guard let truth = value.bool else { throw Self.wrongType(name, "boolean") }
    return truth
  }

  mutating func optionalInteger(_ name: String) throws(QMPCommandError) -> Int64? {
    guard let value = value(name) else { return nil }
    guard let number = value.int64 else { throw Self.wrongType(name, "integer") }
    return number
  }

  mutating func integer(_ name: String) throws(QMPCommandError) -> Int64 {
    guard let number = try optionalInteger(name) else { throw Self.missing(name) }
    return number
  }

  mutating func array(_ name: String) throws(QMPCommandError) -> [JSONValue] {
    guard let value = value(name) else { throw Self.missing(name) }
    guard let elements = value.array else { throw Self.wrongType(name, "array") }
    return elements
  }

  mutating func optionalObject(_ name: String) throws(QMPCommandError) -> JSONObject? {
    guard let value = value(name) else { return nil }
    guard let object = value.object else { throw Self.wrongType(name, "object") }
    return object
  }

  /// Everything else is unexpected.
  func finish() throws(QMPCommandError) {
    for member in object where !read.contains(member.name) {
      throw .generic("Parameter '\(member.name)' is unexpected")
    }
  }

  static func missing(_ name: String) -> QMPCommandError {
    .generic("Parameter '\(name)' is missing")
  }

  static func wrongType(_ name: String, _ type: String) -> QMPCommandError {
    .generic("Invalid parameter type for '\(name)', expected: \(type)")
  }
}
