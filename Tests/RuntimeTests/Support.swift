import Foundation
import MigrationEngine
import MigrationSession
import Platform
import QMP
import Testing

@testable import Runtime

/// Everything here runs one test at a time: descriptors and forks are the whole process's.
@Suite(.serialized) struct RuntimeTests {}

/// A directory that goes away with its owner.
final class TestDirectory {
  let path: String

  init() throws {
    var template = Array("/tmp/runtime-tests-XXXXXX".utf8CString)
    path = String(cString: try #require(mkdtemp(&template)))
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
}

/// A QMP monitor that says what a test wants it to say, one client at a time as QEMU's does.
final class ScriptedMonitor: @unchecked Sendable {
  static let greeting =
    #"{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":22},"package":""},"capabilities":["oob"]}}"#

  let path: String
  private let listener: Int32
  private let lock = NSLock()
  private var client: Int32 = -1
  private var lines: [JSONValue] = []
  private var clientsLeft = 0
  private var stopped = false
  private let answer: @Sendable (_ command: String, _ id: UInt64) -> [String]

  /// Listens in `directory`; `answer` gives the lines that a command is answered with.
  init(
    in directory: TestDirectory, name: String = "monitor", greets: Bool = true, backlog: Int32 = 8,
    answer: @escaping @Sendable (String, UInt64) -> [String] = { _, id in
      [#"{"return":{},"id":\#(id)}"#]
    }
  ) throws {
    path = directory.file(name)
    self.answer = answer
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
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
    try #require(bound == 0 && listen(listener, backlog) == 0)
    if greets { Thread.detachNewThread { [self] in serve() } }
  }

  deinit { close(listener) }

  /// What clients have sent, one value a line.
  var received: [JSONValue] { lock.withLock { lines } }
  /// The `id` of the first client's `qmp_capabilities`.
  var negotiationID: UInt64 { received.first?["id"]?.uint64 ?? 0 }
  /// How often a client has left.
  var departures: Int { lock.withLock { clientsLeft } }

  /// Says something unasked.
  func say(_ line: String) {
    let number = lock.withLock { client }
    write(number, line + "\r\n")
  }

  /// Leaves the client alone.
  func hangUp() { _ = lock.withLock { shutdown(client, Int32(SHUT_RDWR)) } }

  /// Takes no more clients.
  func stop() {
    lock.withLock { stopped = true }
    shutdown(listener, Int32(SHUT_RDWR))
    hangUp()
  }

  private func serve() {
    while !lock.withLock({ stopped }) {
      let number = accept(listener, nil, nil)
      guard number >= 0 else { return }
      lock.withLock { client = number }
      write(number, Self.greeting + "\r\n")
      converse(number)
      lock.withLock {
        client = -1
        clientsLeft += 1
      }
      close(number)
    }
  }

  private func converse(_ number: Int32) {
    var pending: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = recv(number, &buffer, buffer.count, 0)
      guard count > 0 else { return }
      pending += buffer[..<count]
      while let end = pending.firstIndex(of: 10) {
        let line = Array(pending[..<end])
        pending.removeFirst(end + 1)
        guard let value = line.withUnsafeBytes({ try? JSONText.decode($0) }) else { return }
        lock.withLock { lines.append(value) }
        let command = (value["execute"] ?? value["exec-oob"])?.string ?? ""
        let id = value["id"]?.uint64 ?? 0
        let answers =
          command == "qmp_capabilities" ? [#"{"return":{},"id":\#(id)}"#] : answer(command, id)
        for answer in answers { write(number, answer + "\r\n") }
      }
    }
  }

  private func write(_ number: Int32, _ text: String) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count <= 0 { return }
      rest = rest.dropFirst(count)
    }
  }
}

extension Loop {
  /// Dispatches until `body` gives something, for at most 20 s; the events go to `sink`.
  @discardableResult
  func wait<Value>(
    collecting sink: inout [LoopEvent], _ body: ([LoopEvent]) -> Value?
  ) throws -> Value? {
    let end = ContinuousClock.now + .seconds(20)
    while ContinuousClock.now < end {
      while let event = try nextEvent() { sink.append(event) }
      if let value = body(sink) { return value }
      _ = try dispatch(timeoutMilliseconds: 1000)
    }
    return nil
  }

  /// Dispatches until `isDone`, for at most 20 s; looks by itself too, where another thread decides.
  func wait(until isDone: () -> Bool) throws -> Bool {
    for _ in 0..<200 {
      if try run(forMilliseconds: 100, isDone) { return true }
    }
    return false
  }

  /// Whether a foreign loop would find it readable now.
  var isReadable: Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, 0) == 1
  }
}

/// Greets as a monitor on the other end of a connection, and answers the negotiation.
func negotiate(on number: Int32, in loop: Loop, bytesAtOnce count: Int = .max) throws {
  func say(_ text: String) throws {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let piece = rest.prefix(count)
      try #require(piece.withUnsafeBytes { write(number, $0.baseAddress, $0.count) } == piece.count)
      rest = rest.dropFirst(piece.count)
      _ = try loop.dispatch(timeoutMilliseconds: 20_000)
    }
  }
  try say(ScriptedMonitor.greeting + "\n")
  var line: [UInt8] = []
  while line.last != 10 {
    var byte: UInt8 = 0
    while recv(number, &byte, 1, Int32(MSG_DONTWAIT)) != 1 {
      try #require(errno == EAGAIN)
      _ = try loop.dispatch(timeoutMilliseconds: 20_000)
    }
    line.append(byte)
  }
  let id = try line.withUnsafeBytes { try JSONText.decode($0) }["id"]?.uint64
  try say(#"{"return":{},"id":\#(try #require(id))}"# + "\n")
}

/// Waits for something that another thread brings about, for at most 20 s.
func eventually(_ condition: () -> Bool) -> Bool {
  let end = ContinuousClock.now + .seconds(20)
  while !condition() {
    if ContinuousClock.now > end { return false }
    usleep(2000)
  }
  return true
}

/// A client that is ready.
func readyClient(
  in loop: Loop, at path: String, outOfBand: Bool = false
) throws -> QMPClient {
  let client = try QMPClient(
    in: loop, endpoint: .unix(path: path), wantsOutOfBand: outOfBand, within: .seconds(20),
    announces: false)
  #expect(try loop.wait { client.isReady || client.end != nil })
  try #require(client.isReady)
  client.announceEverything()
  return client
}

/// Runs `body` in a forked child and returns what it returned.
///
/// A fork of a process with threads may inherit a lock that another thread held. Such a child ends
/// by its alarm, and the fork is repeated.
func inFork(_ body: () throws -> Int32) -> Int32 {
  for _ in 0..<5 {
    let pid = fork()
    if pid == 0 {
      var none = sigset_t()
      sigemptyset(&none)
      sigprocmask(SIG_SETMASK, &none, nil)
      signal(SIGALRM, SIG_DFL)
      alarm(20)
      _exit((try? body()) ?? 111)
    }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    if status & 0x7F == 0 { return (status >> 8) & 0xFF }
    if status & 0x7F != SIGALRM { return -(status & 0x7F) }
  }
  return -SIGALRM
}

/// The number of this process's descriptors.
func openDescriptors() -> Int {
  (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? -1
}
