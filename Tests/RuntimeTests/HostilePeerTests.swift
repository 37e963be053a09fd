import Foundation
import MigrationEngine
import MigrationSession
import Testing

@testable import Runtime

extension RuntimeTests {
  /// Monitors that are no QEMU and mean ill: memory, descriptors and time stay bounded (I9).
  @Suite struct HostilePeerTests {
    /// What the other end does with a connection.
    enum Hostility: String, CaseIterable, Sendable {
      case silence, closing, garbage, blanks, dripping
      case endlessFirstLine, endlessString, endlessKey, endlessNumber
      case deepArrays, deepObjects, manyValues, manyMembers
      case manyGreetings, earlyEvents, manyEvents, largeEvents, restlessGuest
      case foreignIDs, everyID, everyReplyTwice, absurdReplies, refusals
    }

    /// All of them in one loop, for what answers nothing is waited for.
    @Test func everyMigrationEndsAndMovedNothing() throws {
      try bounded(Hostility.allCases) { loop, paths in
        let migrations = try paths.map { path in
          var options = MigrationOptions()
          options.uri = "unix:/nowhere"
          options.handOver = .none
          options.sourceEnd = .keep
          options.connectDeadline = .seconds(2)
          options.reconnectDeadline = .seconds(1)
          let configuration = SessionConfiguration(
            options: options, sourceMonitor: .unix(path: path), targetMonitor: .unix(path: path))
          let migration = try Migration(in: loop, configuration: configuration)
          try migration.request(.start)
          return migration
        }
        _ = try loop.run(forMilliseconds: 4_000) { migrations.allSatisfy(\.isFinished) }
        for migration in migrations where !migration.isFinished { try migration.request(.cancel) }
        #expect(try loop.run(forMilliseconds: 180_000) { migrations.allSatisfy(\.isFinished) })
        for (migration, hostility) in zip(migrations, Hostility.allCases) {
          #expect(migration.conclusion?.end != .completed, "\(hostility)")
          #expect(migration.conclusion?.owner != .target, "\(hostility)")
          migration.close()
        }
      }
    }

    @Test("a recovery decides nothing by it", arguments: Hostility.allCases)
    func recovery(hostility: Hostility) throws {
      try bounded([hostility]) { loop, paths in
        var configuration = RecoveryConfiguration()
        configuration.sourceMonitor = .unix(path: paths[0])
        configuration.targetMonitor = .unix(path: paths[0])
        configuration.connectDeadline = .milliseconds(500)
        configuration.reconnectDeadline = .milliseconds(300)
        let recovery = try Recovery(in: loop, configuration: configuration)
        try recovery.request(.start)
        // A look at a monitor that does not answer takes longer than anybody has to wait here.
        _ = try loop.run(forMilliseconds: 800) { recovery.isFinished }
        if let conclusion = recovery.conclusion {
          #expect(conclusion.action == .ask && conclusion.owner == .unknown, "\(conclusion)")
        }
        recovery.close()
      }
    }

    @Test("a client is told, or may leave", arguments: Hostility.allCases)
    func client(hostility: Hostility) throws {
      try bounded([hostility]) { loop, paths in
        let client = try QMPClient(
          in: loop, endpoint: .unix(path: paths[0]), wantsOutOfBand: true,
          within: .milliseconds(500),
          announces: true)
        _ = try loop.run(forMilliseconds: 800) { client.isReady || client.end != nil }
        if client.isReady {
          for _ in 0..<8 {
            _ = try? client.submit("query-status", arguments: nil, within: .milliseconds(200))
          }
          _ = try loop.run(forMilliseconds: 400) { client.end != nil }
        }
        // Whatever it has kept for its owner can be taken, and then there is no more.
        client.close()
        var events = 0
        while try loop.nextEvent() != nil { events += 1 }
        #expect(events <= QMPClient.eventLimit + 16)
      }
    }

    // MARK: - Bounds

    /// What two connections may cost while messages of the largest size are read, and far less than
    /// arrives.
    private static let memoryLimit = 256 << 20

    private func bounded(
      _ kinds: [Hostility], _ body: (Loop, [String]) throws -> Void
    ) throws {
      let directory = try TestDirectory()
      let servers = try kinds.map { try HostileServer(at: directory.file($0.rawValue), $0) }
      defer { for server in servers { server.stop() } }
      func ownDescriptors() -> Int {
        openDescriptors() - servers.reduce(0) { $0 + $1.descriptors }
      }
      let descriptors = ownDescriptors()
      let before = try Self.memory("VmRSS")
      try Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
      let loop = try Loop()
      try body(loop, servers.map(\.path))
      loop.close()
      #expect(eventually { ownDescriptors() <= descriptors })
      // The address sanitizer keeps what was freed.
      if dlsym(nil, "__asan_init") == nil {
        let most = try Self.memory("VmHWM") - before
        #expect(most < Self.memoryLimit * (kinds.count > 1 ? 4 : 1), "\(most) bytes")
      }
    }

    /// A line of the process's status, bytes.
    private static func memory(_ name: String) throws -> Int {
      let text = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name + ":") })
      return try #require(Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "")) << 10
    }
  }
}

/// Serves every connection with ill will, each in a thread of its own.
private final class HostileServer: @unchecked Sendable {
  typealias Hostility = RuntimeTests.HostilePeerTests.Hostility

  let path: String
  private let hostility: Hostility
  private let listener: Int32
  private let lock = NSLock()
  private var clients: Set<Int32> = []
  private var isStopped = false

  init(at path: String, _ hostility: Hostility) throws {
    self.path = path
    self.hostility = hostility
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { raw in
      for (index, byte) in path.utf8.enumerated() { raw[index] = byte }
    }
    let bound = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(bound == 0 && listen(listener, 16) == 0)
    Thread.detachNewThread { [self] in
      while true {
        let number = accept(listener, nil, nil)
        guard number >= 0 else { return }
        lock.withLock { _ = clients.insert(number) }
        Thread.detachNewThread { [self] in
          serve(number)
          lock.withLock {
            clients.remove(number)
            close(number)
          }
        }
      }
    }
  }

  deinit { close(listener) }

  /// How many of this process's descriptors are the server's.
  var descriptors: Int { lock.withLock { clients.count } }

  func stop() {
    lock.withLock {
      isStopped = true
      shutdown(listener, Int32(SHUT_RDWR))
      for number in clients { shutdown(number, Int32(SHUT_RDWR)) }
    }
  }

  // MARK: - What it says

  private static let negotiation = #""execute":"qmp_capabilities""#

  private func serve(_ number: Int32) {
    switch hostility {
    case .silence: _ = hear(number)
    case .closing: break
    case .garbage:
      repeatedly(number, bytes: (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 167) })
    case .blanks: repeatedly(number, " \r\n\t")
    case .dripping: drip(number)
    case .endlessFirstLine: endless(number, #"{"QMP":{"version":""#, "x")
    case .earlyEvents: repeatedly(number, #"{"event":"STOP","data":{}}"# + "\r\n")
    default: negotiateAndServe(number)
    }
  }

  private func negotiateAndServe(_ number: Int32) {
    guard say(number, ScriptedMonitor.greeting + "\r\n"), let first = hear(number),
      let id = Self.ids(in: first).first, say(number, #"{"return":{},"id":\#(id)}"# + "\r\n")
    else { return }
    let greeting = ScriptedMonitor.greeting + "\r\n"
    let text = String(repeating: "n", count: 60_000)
    switch hostility {
    case .endlessString: endless(number, #"{"return":""#, "x")
    case .endlessKey: endless(number, #"{""#, "k")
    case .endlessNumber: endless(number, #"{"return":"#, "1")
    case .deepArrays: endless(number, #"{"return":"#, "[")
    case .deepObjects: endless(number, "", #"{"a":"#)
    case .manyValues: endless(number, #"{"return":[0"#, ",0")
    case .manyMembers: endless(number, #"{"return":{"a":0"#, #","a":0"#)
    case .manyGreetings: repeatedly(number, greeting)
    case .manyEvents:
      repeatedly(number, #"{"event":"MIGRATION","data":{"status":"device"}}"# + "\r\n")
    case .largeEvents: repeatedly(number, #"{"event":"X","data":{"t":"\#(text)"}}"# + "\r\n")
    case .restlessGuest:
      repeatedly(number, #"{"event":"STOP"}"# + "\r\n" + #"{"event":"RESUME"}"# + "\r\n")
    case .foreignIDs:
      repeatedly(
        number,
        [#""1""#, "-1", "null", "1e99", "18446744073709551616", "[]", "1.0", "{}"]
          .map { #"{"return":{},"id":\#($0)}"# + "\r\n" }.joined())
    case .everyID:
      repeatedly(number, (0..<500).map { #"{"return":[],"id":\#($0)}"# + "\r\n" }.joined())
    default: answer(number)
    }
  }

  /// Answers what is asked, and never with what was asked for.
  private func answer(_ number: Int32) {
    let absurd = [
      "{}", "[]", "null", "5", "-0.5", #""running""#, "18446744073709551615", "[[[]]]",
      #"{"status":5,"ram":{"total":-1},"running":[]}"#, #"{"status":"running\u0000"}"#,
      #"[{"device":5,"len":"x"},{"capability":{},"state":7},null]"#,
    ]
    var count = 0
    while let text = hear(number) {
      for id in Self.ids(in: text) {
        count += 1
        let line: String =
          switch hostility {
          case .refusals: #"{"id":\#(id),"error":{"class":7,"desc":["no"]}}"#
          default: #"{"id":\#(id),"return":\#(absurd[count % absurd.count])}"#
          }
        guard say(number, line + "\r\n" + (hostility == .everyReplyTwice ? line + "\r\n" : ""))
        else { return }
      }
    }
  }

  private static func ids(in text: String) -> [Substring] {
    text.matches(of: #/"id":(\d+)\}/#).map(\.output.1)
  }

  // MARK: - Bytes

  /// A message that has a beginning and no end.
  private func endless(_ number: Int32, _ beginning: String, _ piece: String) {
    if say(number, beginning) { repeatedly(number, piece) }
  }

  private func repeatedly(_ number: Int32, _ text: String) {
    repeatedly(number, bytes: Array(text.utf8))
  }

  /// The same again and again, for longer than any message may be; in the long run a gibibyte.
  private static let floodLength =
    ProcessInfo.processInfo.environment["SWO_LONG"] == nil ? 20 << 20 : 1 << 30

  private func repeatedly(_ number: Int32, bytes: [UInt8]) {
    var block: [UInt8] = []
    while block.count < 1 << 16 { block += bytes }
    var left = Self.floodLength
    while left > 0, send(number, block) { left -= block.count }
    _ = hear(number)
  }

  private func drip(_ number: Int32) {
    for byte in (ScriptedMonitor.greeting + String(repeating: " ", count: 1 << 20)).utf8 {
      guard send(number, [byte]) else { return }
      usleep(1_000)
    }
  }

  private func say(_ number: Int32, _ text: String) -> Bool { send(number, Array(text.utf8)) }

  private func send(_ number: Int32, _ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      if lock.withLock({ isStopped }) { return false }
      let count = rest.withUnsafeBytes {
        Foundation.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  /// What came, or nil at the end.
  private func hear(_ number: Int32) -> String? {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = recv(number, &buffer, buffer.count, 0)
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }
}
