import Glibc
import MigrationEngine
import Platform

@testable import SSH

/// Something that is driven along with a connection.
protocol Companion {
  var entries: [pollfd] { get }
  func carry()
}

extension Relay: Companion {}
extension HostileServer: Companion {}

/// Drives one connection with poll, as a loop would.
final class Client {
  let connection: SSHConnection
  private(set) var notices: [SSHNotice] = []
  /// What is at the other end in this thread and must be carried on as well.
  private var companion: (any Companion)?

  init(_ configuration: SSHConfiguration, socket: Descriptor? = nil) throws {
    connection = try SSHConnection(
      socket: socket ?? connect(to: configuration.port), configuration: configuration, at: now())
  }

  /// A connection through `relay`.
  convenience init(_ configuration: SSHConfiguration, through relay: Relay) throws {
    try self.init(configuration, socket: relay.clientEnd())
    companion = relay
  }

  /// A connection to a server in this thread.
  convenience init(
    _ configuration: SSHConfiguration, socket: Descriptor, server: HostileServer
  ) throws {
    try self.init(configuration, socket: socket)
    companion = server
  }

  /// A connection to `server` that has logged in.
  convenience init(
    loggedInTo server: Server, _ change: (inout SSHConfiguration) -> Void = { _ in }
  ) throws {
    var configuration = try server.configuration()
    change(&configuration)
    try self.init(configuration)
    try waitUntilReady()
  }

  /// One turn: waits for something to do, then does it.
  func turn(atMost milliseconds: Int32 = 1000) {
    var entries = connection.interests.map { interest in
      pollfd(
        fd: interest.descriptor,
        events: (interest.wantsRead ? Int16(POLLIN) : 0)
          | (interest.wantsWrite ? Int16(POLLOUT) : 0),
        revents: 0)
    }
    var wait = milliseconds
    if connection.hasPendingWork { wait = 0 }
    if let deadline = connection.nextDeadline {
      wait = min(
        wait, Int32(clamping: max(0, ((deadline - now()).nanoseconds + 999_999) / 1_000_000)))
    }
    entries += companion?.entries ?? []
    poll(&entries, nfds_t(entries.count), wait)
    companion?.carry()
    step()
  }

  func step() {
    notices += connection.step(at: now())
  }

  /// Turns until `result` has one.
  func wait<Value>(for what: String, _ result: () throws -> Value?) throws -> Value {
    let end = MonotonicClock.now + patience
    while true {
      if let value = try result() { return value }
      guard MonotonicClock.now < end else { throw TestFailure("no \(what): \(notices.suffix(5))") }
      turn()
    }
  }

  func waitUntilReady() throws {
    try wait(for: "login") {
      if let failure { throw failure }
      return connection.isReady ? () : nil
    }
  }

  var failure: SSHError? {
    for case .failed(let error) in notices { return error }
    return nil
  }

  func waitForFailure() throws -> SSHError { try wait(for: "failure") { failure } }

  func take(where matches: (SSHNotice) -> Bool) -> SSHNotice? {
    guard let index = notices.firstIndex(where: matches) else { return nil }
    return notices.remove(at: index)
  }

  /// Waits until the channel is open, or throws why it is not.
  func waitUntilOpen(_ id: SSHChannelID) throws {
    try wait(for: "channel") {
      if let failure { throw failure }
      for notice in notices {
        if case .channelOpened(id) = notice { return () }
        if case .channelRefused(id, let error) = notice { throw error }
      }
      return nil
    }
  }

  func refusal(of id: SSHChannelID) throws -> SSHError {
    try wait(for: "refusal") {
      if let failure { throw failure }
      for case .channelRefused(id, let error) in notices { return error }
      return nil
    }
  }

  func openCommand(_ command: String) throws -> SSHChannelID {
    let id = try connection.openCommand(command, at: now())
    try waitUntilOpen(id)
    return id
  }

  func openUnixSocket(_ path: String) throws -> SSHChannelID {
    let id = try connection.openUnixSocket(path, at: now())
    try waitUntilOpen(id)
    return id
  }

  func openTCP(_ port: UInt16) throws -> SSHChannelID {
    let id = try connection.openTCP(host: "127.0.0.1", port: port, at: now())
    try waitUntilOpen(id)
    return id
  }

  /// Reads what is there now.
  func read(_ id: SSHChannelID, _ stream: SSHStream = .output) throws -> (
    bytes: [UInt8], isAtEnd: Bool
  ) {
    var bytes: [UInt8] = []
    var room = [UInt8](repeating: 0, count: 16_384)
    while true {
      let result = try room.withUnsafeMutableBytes { (room) throws(SSHError) in
        try connection.read(id, stream, into: room)
      }
      switch result {
      case .bytes(let count): bytes += room.prefix(count)
      case .wouldBlock: return (bytes, false)
      case .endOfFile: return (bytes, true)
      }
    }
  }

  func write(_ bytes: ArraySlice<UInt8>, to id: SSHChannelID) throws -> Int {
    try bytes.withUnsafeBytes { (bytes) throws(SSHError) in
      try connection.write(bytes, to: id)
    }
  }

  struct CommandResult: Equatable {
    var output: [UInt8] = []
    var error: [UInt8] = []
    var exit: SSHExit?

    var text: String { String(decoding: output, as: UTF8.self) }
    var errorText: String { String(decoding: error, as: UTF8.self) }
  }

  /// Runs a command to its end with `input`.
  func runCommand(_ command: String, input: [UInt8] = []) throws -> CommandResult {
    let id = try openCommand(command)
    var result = CommandResult()
    var rest = input[...]
    var isFinished = false
    return try wait(for: "end of \(command)") {
      let closed = take { if case .channelClosed(id, _) = $0 { true } else { false } }
      if case .channelClosed(_, let exit) = closed {
        result.exit = exit
        return result
      }
      if let failure { throw failure }
      if !rest.isEmpty {
        rest = rest.dropFirst(try write(rest, to: id))
      } else if !isFinished {
        try connection.finishWriting(id)
        isFinished = true
      }
      result.output += try read(id).bytes
      result.error += try read(id, .error).bytes
      return nil
    }
  }

  /// Closes in good form and waits for it.
  func close() throws {
    connection.close(at: now())
    try wait(for: "close") { notices.contains(.closed) ? () : nil }
  }
}

extension Server {
  /// A configuration that works: the server's host keys known, one ed25519 key.
  func configuration(
    hostKeys: [String] = ["host_ed25519"], keyFiles: [String] = ["user_ed25519"]
  ) throws -> SSHConfiguration {
    let fixture = Fixture.shared
    let text = hostKeys.map { "[localhost]:\(port) \(fixture.publicKey($0))\n" }.joined()
    let file = try directory.write("known_hosts", text)
    var configuration = SSHConfiguration(
      host: "localhost", port: port, user: fixture.user,
      hostKeyRule: .knownHosts(files: [file], alias: nil))
    configuration.keyFiles = keyFiles.map { .init(path: fixture.key($0)) }
    return configuration
  }
}
