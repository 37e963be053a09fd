import CSwitchover
import Glibc
import MigrationEngine
import Platform
import QEMUHarness
import SSH

/// Bulk through the library's tunnel beside plain `ssh -L`: the same sender, receiver and sshd, in turn;
/// and what a command costs over a login that stands.
struct TunnelBenchmark {
  enum Way: String, CaseIterable {
    case plain = "ssh -L, default cipher (floor)"
    case automatic = "libswitchover, auto"
    case system = "libswitchover, ssh"
    case libssh2 = "libswitchover, libssh2"
    case plainOfTwo = "ssh -L, two streams (floor)"
    case automaticOfTwo = "libswitchover, auto, two streams"
    case twoLogins = "ssh -L, two streams, a login for each"

    var carrier: swo_ssh_carrier? {
      switch self {
      case .plain, .plainOfTwo, .twoLogins: nil
      case .automatic, .automaticOfTwo: .SWO_SSH_AUTO
      case .system: .SWO_SSH_SYSTEM
      case .libssh2: .SWO_SSH_LIBSSH2
      }
    }

    var streams: Int {
      switch self {
      case .plainOfTwo, .automaticOfTwo, .twoLogins: 2
      case .plain, .automatic, .system, .libssh2: 1
      }
    }

    var floor: Way? {
      switch self {
      case .plain, .plainOfTwo: nil
      case .automaticOfTwo, .twoLogins: .plainOfTwo
      case .automatic, .system, .libssh2: .plain
      }
    }
  }

  var rounds: Int

  private static let bytes = 512 << 20
  /// How much faster than `ssh -L` it has to be: with AES in the processor, and without.
  private static let (goal, goalWithoutAES) = (1.4, 1.0)
  private static let commands = 200

  func run(_ goals: inout Goals) throws {
    let server = try SSHServer()
    try runBulk(server, &goals)
    try runCommands(server)
  }

  // MARK: - Bulk

  private func runBulk(_ server: SSHServer, _ goals: inout Goals) throws {
    var rates: [Way: Series] = [:]
    for way in Way.allCases { rates[way] = Series(name: way.rawValue) }
    for round in 0..<rounds {
      // Another way is first each time.
      let first = round % Way.allCases.count
      for way in Way.allCases[first...] + Way.allCases[..<first] {
        rates[way]?.values.append(try measure(way, server))
      }
    }
    printTable(
      "Bulk by ssh on loopback, \(Self.bytes >> 20) MiB", unit: "GB/s",
      Way.allCases.compactMap { way in
        rates[way].map { ($0, way.floor.flatMap { rates[$0] }) }
      })
    print("")
    func judge(_ way: Way, atLeast limit: Double) {
      guard let floor = way.floor.flatMap({ rates[$0] }), let ours = rates[way] else { return }
      goals.judge(
        "\(way.rawValue), beside ssh -L", ours.median / floor.median, atLeast: limit, "×")
    }
    judge(.automatic, atLeast: HostFacts.hasAES ? Self.goal : Self.goalWithoutAES)
    judge(.automaticOfTwo, atLeast: Self.goalWithoutAES)
  }

  /// GB/s.
  private func measure(_ way: Way, _ server: SSHServer) throws -> Double {
    let directory = try TemporaryDirectory()
    let receiver = try Receiver(path: directory.file("receiver"), streams: way.streams)
    if let carrier = way.carrier {
      let tunnel = try openTunnel(carrier, server, to: receiver.path, in: directory)
      return try receiver.rate(of: Self.bytes, through: [tunnel.path]) {
        _ = try tunnel.migration.turn()
      }
    }
    let logins = way == .twoLogins ? 2 : 1
    let forwards = try (0..<logins).map {
      try Forward(server, to: receiver.path, in: directory, number: $0)
    }
    return try receiver.rate(of: Self.bytes, through: forwards.map(\.path)) { usleep(10_000) }
  }

  /// A tunnel by the library, with a socket that leads to `path`. Its migration waits for two monitors
  /// that say nothing.
  private func openTunnel(
    _ carrier: swo_ssh_carrier, _ server: SSHServer, to path: String,
    in directory: TemporaryDirectory
  ) throws -> (migration: LibraryMigration, path: String) {
    let monitors = ["source", "target"].map(directory.file)
    for monitor in monitors {
      // Closed with the process; the benchmark makes few of them.
      guard QEMUHarness.Endpoint.unix(monitor).listen() >= 0 else {
        throw HarnessError("cannot listen")
      }
    }
    let migration = try LibraryMigration(
      source: monitors[0], target: server.address(monitors[1]), uri: "unix:\(path)",
      handOver: .SWO_HAND_OVER_NONE)
    try migration.setSSH(carrier, command: server.command())
    try migration.setConnectLimit(600_000)
    try migration.start()
    while true {
      for case let entrance? in try migration.turn().map(tunnelEntrance) {
        return (migration, entrance)
      }
    }
  }

  // MARK: - Commands

  private func runCommands(_ server: SSHServer) throws {
    var line = Series(name: "a line and its reply, open channel")
    var command = Series(name: "a new command, open login")
    var fresh = Series(name: "a fresh `ssh host true`")
    let client = try CommandClient(server)
    for _ in 0..<Self.commands { line.values.append(try client.exchangeLine()) }
    for _ in 0..<max(Self.commands / 10, rounds) { command.values.append(try client.runCommand()) }
    let directory = try TemporaryDirectory()
    for _ in 0..<max(rounds, 3) {
      let start = MonotonicTime.now
      let child = try ChildProcess(
        "/usr/bin/ssh", Array(server.command().dropFirst()) + ["127.0.0.1", "true"],
        standardErrorPath: directory.file("ssh.log"))
      guard child.waitForExit(upTo: .seconds(60)) == .exited(status: 0) else {
        throw HarnessError("ssh: \(child.standardError)")
      }
      fresh.values.append((MonotonicTime.now - start).milliseconds)
    }
    printTable(
      "Commands by ssh on loopback", unit: "ms", [(line, fresh), (command, fresh), (fresh, nil)])
  }
}

/// Plain `ssh -L`, as one would type it.
private final class Forward {
  let path: String
  private let child: QEMUHarness.ChildProcess

  /// Logs in and waits until it listens.
  init(
    _ server: SSHServer, to destination: String, in directory: TemporaryDirectory, number: Int
  ) throws {
    path = directory.file("forward\(number)")
    let options = ["-N", "-L", "\(path):\(destination)", "127.0.0.1"]
    let command = server.command(["ExitOnForwardFailure=yes"]) + options
    child = try ChildProcess(
      "/usr/bin/ssh", Array(command.dropFirst()),
      standardErrorPath: directory.file("ssh\(number).log"))
    while access(path, F_OK) != 0 {
      guard child.exit == nil else { throw HarnessError("ssh: \(child.standardError)") }
      usleep(1000)
    }
  }
}

/// The socket for memory, from the log line that says that a tunnel stands.
func tunnelEntrance(in line: String) -> String? {
  guard line.contains("memory by"), let range = line.firstRange(of: ", in /") else { return nil }
  return "/\(line[range.upperBound...])/memory"
}

/// Takes what several streams bring, and knows how fast that was.
private final class Receiver: Sendable {
  let path: String
  private let streams: Int
  private let listener: Int32
  private let ended = Guarded([MonotonicTime]())

  init(path: String, streams: Int) throws {
    self.path = path
    self.streams = streams
    listener = QEMUHarness.Endpoint.unix(path).listen()
    guard listener >= 0 else { throw HarnessError("cannot listen at \(path)") }
  }

  deinit { close(listener) }

  /// Sends so many bytes by all streams together to sockets that lead here, and calls `meanwhile` again
  /// and again until all have come; GB/s.
  func rate(of bytes: Int, through entrances: [String], meanwhile: () throws -> Void) throws
    -> Double
  {
    let begin = MonotonicTime.now
    var threads: [pthread_t] = []
    for stream in 0..<streams {
      let entrance = entrances[stream % entrances.count]
      threads.append(startThread(self) { $0.receive() })
      threads.append(startThread(self) { $0.send(bytes / $0.streams, to: entrance) })
    }
    while ended.withLock({ $0.count }) < streams { try meanwhile() }
    for thread in threads { pthread_join(thread, nil) }
    guard let last = ended.withLock({ $0.max() }) else { return .nan }
    return Double(bytes) / 1e9 / ((last - begin).milliseconds / 1000)
  }

  private static let pieceSize = 1 << 20

  private func receive() {
    let stream = accept(listener, nil, nil)
    var room = [UInt8](repeating: 0, count: Self.pieceSize)
    while read(stream, &room, room.count) > 0 {}
    ended.withLock { $0.append(.now) }
    close(stream)
  }

  private func send(_ count: Int, to entrance: String) {
    let stream = QEMUHarness.Endpoint.unix(entrance).connect()
    let piece = [UInt8](repeating: 0x5a, count: Self.pieceSize)
    var rest = count
    while rest > 0 {
      let sent = Glibc.send(stream, piece, min(rest, piece.count), Int32(MSG_NOSIGNAL))
      precondition(sent > 0, "the tunnel takes nothing more")
      rest -= sent
    }
    close(stream)
  }
}

/// A login by libssh2 that runs commands.
private final class CommandClient {
  private let connection: SSHConnection
  private let cat: SSHChannelID

  init(_ server: SSHServer) throws {
    guard let address = SocketAddress(numericHost: "127.0.0.1", port: server.port) else {
      throw HarnessError("no address")
    }
    var configuration = SSHConfiguration(
      host: "127.0.0.1", port: server.port, user: HostFacts.userName ?? "root",
      hostKeyRule: .knownHosts(
        files: [server.directory.file("known_hosts")], alias: SSHServer.alias))
    configuration.keyFiles = [.init(path: server.directory.file("user"))]
    let socket = try StreamSocket.connect(to: address).descriptor
    connection = try SSHConnection(socket: socket, configuration: configuration, at: Self.now)
    while !connection.isReady { try Self.turn(connection) }
    cat = try connection.openCommand("cat", at: Self.now)
    try turn(until: .channelOpened(cat))
  }

  /// Milliseconds.
  func exchangeLine() throws -> Double {
    let line = Array("{\"execute\":\"query-status\"}\n".utf8)
    let start = MonotonicTime.now
    _ = try line.withUnsafeBytes { try connection.write($0, to: cat) }
    try readAll(line.count, from: cat)
    return (MonotonicTime.now - start).milliseconds
  }

  /// Milliseconds.
  func runCommand() throws -> Double {
    let start = MonotonicTime.now
    let channel = try connection.openCommand("true", at: Self.now)
    try turn(until: .channelClosed(channel, .status(0)))
    return (MonotonicTime.now - start).milliseconds
  }

  private func readAll(_ count: Int, from channel: SSHChannelID) throws {
    var room = [UInt8](repeating: 0, count: 4096)
    var rest = count
    while rest > 0 {
      switch try room.withUnsafeMutableBytes({ try connection.read(channel, into: $0) }) {
      case .bytes(let count): rest -= count
      case .wouldBlock: try Self.turn(connection)
      case .endOfFile: throw HarnessError("the channel has ended")
      }
    }
  }

  private func turn(until notice: SSHNotice) throws {
    while true {
      let notices = try Self.turn(connection)
      // A command's end is heard of once its output is read to the end.
      for case .channelReadable(let channel) in notices where channel != cat {
        var room = [UInt8](repeating: 0, count: 64)
        _ = try room.withUnsafeMutableBytes { try connection.read(channel, into: $0) }
        _ = try room.withUnsafeMutableBytes { try connection.read(channel, .error, into: $0) }
      }
      if notices.contains(notice) { return }
    }
  }

  @discardableResult
  private static func turn(_ connection: SSHConnection) throws -> [SSHNotice] {
    if !connection.hasPendingWork {
      var waited = connection.interests.map { interest in
        pollfd(
          fd: interest.descriptor,
          events: Int16((interest.wantsRead ? POLLIN : 0) | (interest.wantsWrite ? POLLOUT : 0)),
          revents: 0)
      }
      poll(&waited, nfds_t(waited.count), 1000)
    }
    let notices = connection.step(at: now)
    for case .failed(let error) in notices { throw HarnessError("\(error)") }
    return notices
  }

  private static var now: MonotonicInstant {
    MonotonicInstant(nanoseconds: MonotonicClock.now)
  }
}
