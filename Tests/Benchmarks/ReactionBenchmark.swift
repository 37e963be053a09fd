import CBenchmarks
import CSwitchover
import Glibc

/// The time from `completed` readable on the source's socket to `cont` readable on the target's, with one
/// and with many migrations in one loop, beside a bare epoll echo under the same load.
struct ReactionBenchmark {
  /// How much longer than the echo the library may take.
  static let reactionLimit = 5.0
  static let memoryLimitKibibytes = 64.0
  static let idlePercentLimit = 2.0
  /// How many migrations write journals, one after another, beside those that are measured.
  private static let journaling = 2

  func run(_ goals: inout Goals) throws {
    print("\nReaction: source says completed → target reads cont (simulated monitors)")
    let alone = try measure(others: 0, rounds: 150)
    let crowded = try measure(others: 499, rounds: 100)
    printTable(
      "Reaction", unit: "µs",
      [
        (alone.echo, nil), (alone.library, alone.echo), (crowded.echo, nil),
        (crowded.library, crowded.echo),
      ])
    print("")
    for figures in [alone, crowded] {
      goals.judge(
        figures.library.name, figures.library, beside: figures.echo, atMost: Self.reactionLimit)
    }
    goals.judge(
      "memory a migration", crowded.kibibytes, atMost: Self.memoryLimitKibibytes, "KiB of heap")
    goals.judge(
      "500 migrations between events", crowded.idlePercent, atMost: Self.idlePercentLimit,
      "% of a core")
  }

  private struct Figures {
    var echo: Series
    var library: Series
    var kibibytes = 0.0
    var idlePercent = 0.0
  }

  /// Measures the echo and the library in turn, with others idle in the loop, some that write journals,
  /// and one that relays bulk.
  private func measure(others: Int, rounds: Int) throws -> Figures {
    let name = "\(others + 1) migrations in the loop"
    var figures = Figures(
      echo: Series(name: "bare epoll echo beside it"),
      library: Series(
        name: others == 0 ? "one migration in the loop" : "\(name), others at work"))
    let loop = LoopThread()
    let thread = startThread(loop) { $0.run() }
    let idle = (0..<others).map { _ in SimulatedPair() }
    let before = bench_heap_bytes()
    for pair in idle { loop.add(pair) }
    for pair in idle { pair.reachActive() }
    if others > 0 {
      figures.kibibytes = Double(bench_heap_bytes() - before) / Double(others) / 1024
    }
    let background = BackgroundMonitors(idle)
    let backgroundThread = startThread(background) { $0.run() }
    if others > 0 { figures.idlePercent = idlePercent(of: thread, seconds: 5) }
    let writers = (0..<(others > 0 ? Self.journaling : 0)).map { JournaledMigrations(loop, $0) }
    let writerThreads = writers.map { startThread($0) { $0.run() } }
    let relay = others > 0 ? try BulkRelay(loop) : nil
    let echo = Echo()
    for _ in 0..<rounds {
      figures.echo.values.append(echo.measure())
      let pair = SimulatedPair()
      loop.add(pair)
      pair.reachActive()
      pair.reachStop()
      usleep(1000)
      figures.library.values.append(pair.measureGrant())
      pair.finish()
    }
    echo.stop()
    for writer in writers { writer.stop() }
    for thread in writerThreads { pthread_join(thread, nil) }
    if !writers.isEmpty {
      print("  \(writers.reduce(0) { $0 + $1.count }) migrations wrote a journal meanwhile")
    }
    if let rate = relay?.stop() { print("  \(fixed(rate)) MB/s were relayed meanwhile") }
    loop.stop()
    pthread_join(thread, nil)
    background.stop()
    pthread_join(backgroundThread, nil)
    for pair in idle { pair.close() }
    return figures
  }

  /// What the loop's thread uses of a processor while nothing happens.
  private func idlePercent(of thread: pthread_t, seconds: UInt32) -> Double {
    let (begin, used) = (nanoseconds(), bench_thread_nanoseconds(thread))
    sleep(seconds)
    return 100 * Double(bench_thread_nanoseconds(thread) - used) / Double(nanoseconds() - begin)
  }
}

/// The bare echo: a thread that waits in epoll for a byte and answers it.
final class Echo {
  private let input = makePair()
  private let output = makePair()
  private let thread: pthread_t

  init() {
    thread = startThread(EchoThread(from: input.1, to: output.0)) { $0.run() }
  }

  /// Microseconds from a byte's being readable to that of its answer.
  func measure() -> Double {
    usleep(1000)
    let start = nanoseconds()
    var byte: UInt8 = 1
    _ = write(input.0, &byte, 1)
    var watched = pollfd(fd: output.1, events: Int16(POLLIN), revents: 0)
    poll(&watched, 1, 10_000)
    let end = nanoseconds()
    _ = read(output.1, &byte, 1)
    return Double(end - start) / 1000
  }

  func stop() {
    close(input.0)
    pthread_join(thread, nil)
    for descriptor in [input.1, output.0, output.1] { close(descriptor) }
  }
}

/// Migrations with a journal, from their beginning to their end, one after another.
final class JournaledMigrations: @unchecked Sendable {
  private let loop: LoopThread
  private let folder: String
  private let stopping = makePair()
  private(set) var count = 0

  init(_ loop: LoopThread, _ number: Int) {
    self.loop = loop
    folder = "/tmp/switchover-bench.\(getpid()).\(number)"
    mkdir(folder, 0o700)
  }

  func stop() {
    var byte: UInt8 = 1
    _ = write(stopping.0, &byte, 1)
  }

  func run() {
    var watched = pollfd(fd: stopping.1, events: Int16(POLLIN), revents: 0)
    while poll(&watched, 1, 5) == 0 {
      let journal = folder + "/\(count)"
      let pair = SimulatedPair()
      loop.add(pair, journal: journal)
      pair.reachActive()
      pair.reachStop()
      _ = pair.measureGrant()
      pair.finish()
      unlink(journal)
      count += 1
    }
    // The last one's outcome is perhaps still to be written; what is in /tmp may stay there.
    rmdir(folder)
  }
}

func makePair() -> (Int32, Int32) {
  var pair: [Int32] = [0, 0]
  let result = socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair)
  precondition(result == 0)
  return (pair[0], pair[1])
}

private final class ThreadBody {
  let run: () -> Void

  init(_ run: @escaping () -> Void) { self.run = run }
}

func startThread<Work: AnyObject & Sendable>(
  _ work: Work, _ body: @escaping @Sendable (Work) -> Void
) -> pthread_t {
  var thread = pthread_t()
  let box = Unmanaged.passRetained(ThreadBody { body(work) })
  pthread_create(
    &thread, nil,
    { argument in
      guard let argument else { return nil }
      Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
      return nil
    }, box.toOpaque())
  return thread
}

final class EchoThread: Sendable {
  let input: Int32
  let output: Int32

  init(from input: Int32, to output: Int32) {
    self.input = input
    self.output = output
  }

  func run() { bench_echo(input, output) }
}

/// The library's loop in a thread of its own; migrations are handed to it through a lock.
final class LoopThread: @unchecked Sendable {
  private let loop: OpaquePointer?
  private var lock = pthread_mutex_t()
  private var waiting: [(pair: SimulatedPair, journal: String?)] = []
  private var waitingTunnel: Tunnel?
  /// The socket that leads into the tunnel, once it stands.
  private var entrance: String?
  private var isStopping = false
  private let wake = makePair()
  private var migrations: [OpaquePointer?] = []

  init() {
    var loop: OpaquePointer?
    _ = swo_loop_new(&loop)
    self.loop = loop
    pthread_mutex_init(&lock, nil)
  }

  func add(_ pair: SimulatedPair, journal: String? = nil) {
    pthread_mutex_lock(&lock)
    waiting.append((pair, journal))
    pthread_mutex_unlock(&lock)
    var byte: UInt8 = 1
    _ = write(wake.0, &byte, 1)
  }

  private struct Tunnel {
    var source: String
    var target: String
    var uri: String
    var command: [String]
  }

  /// Opens a tunnel by libssh2 for a migration that does nothing else; the socket that leads into it.
  func openTunnel(source: String, target: String, uri: String, command: [String]) -> String {
    pthread_mutex_lock(&lock)
    waitingTunnel = Tunnel(source: source, target: target, uri: uri, command: command)
    pthread_mutex_unlock(&lock)
    var byte: UInt8 = 1
    _ = write(wake.0, &byte, 1)
    while true {
      pthread_mutex_lock(&lock)
      let path = entrance
      pthread_mutex_unlock(&lock)
      if let path { return path }
      usleep(1000)
    }
  }

  func stop() {
    pthread_mutex_lock(&lock)
    isStopping = true
    pthread_mutex_unlock(&lock)
    var byte: UInt8 = 1
    _ = write(wake.0, &byte, 1)
  }

  func run() {
    while true {
      if bench_wait(wake.1, swo_loop_fd(loop)) == wake.1 {
        var byte: UInt8 = 0
        _ = read(wake.1, &byte, 1)
        if takeOrders() { break }
      } else {
        _ = swo_loop_dispatch(loop, 0)
        drain()
      }
    }
    for migration in migrations { swo_migration_free(migration) }
    swo_loop_free(loop)
  }

  private func drain() {
    var event: OpaquePointer?
    while swo_loop_next_event(loop, &event) == 1 {
      switch swo_event_kind(rawValue: UInt32(bitPattern: swo_event_kind_of(event))) {
      case .SWO_EVENT_FINISHED:
        if let migration = swo_event_migration(event) {
          swo_migration_free(migration)
          migrations.removeAll { $0 == migration }
        }
      case .SWO_EVENT_LOG: noteTunnel(String(cString: swo_event_text(event)))
      default: break
      }
      swo_event_free(event)
    }
  }

  private func noteTunnel(_ text: String) {
    guard let path = tunnelEntrance(in: text) else { return }
    pthread_mutex_lock(&lock)
    entrance = path
    pthread_mutex_unlock(&lock)
  }

  private func open(_ tunnel: Tunnel) {
    let words = tunnel.command.map { strdup($0) }
    defer { for word in words { free(word) } }
    let carrier = Int32(swo_ssh_carrier.SWO_SSH_LIBSSH2.rawValue)
    let isSet = swo_loop_set_ssh(loop, carrier, words.map { UnsafePointer($0) } + [nil], 0)
    guard isSet == 0 else { fatalError(String(cString: swo_last_error())) }
    var migration: OpaquePointer?
    _ = swo_migration_new(loop, &migration)
    _ = swo_migration_set_monitor(migration, 1, tunnel.source)
    _ = swo_migration_set_monitor(migration, 2, tunnel.target)
    _ = swo_migration_set_uri(migration, tunnel.uri)
    _ = swo_migration_set_hand_over(migration, 3)
    _ = swo_migration_set_source_end(migration, 1)
    _ = swo_migration_set_monitor_deadlines(migration, 600_000, 600_000)
    guard swo_migration_start(migration) == 0 else { fatalError(String(cString: swo_last_error())) }
    migrations.append(migration)
  }

  private func takeOrders() -> Bool {
    pthread_mutex_lock(&lock)
    let batch = waiting
    waiting = []
    let tunnel = waitingTunnel
    waitingTunnel = nil
    let stops = isStopping
    pthread_mutex_unlock(&lock)
    if let tunnel { open(tunnel) }
    for (pair, journal) in batch {
      var migration: OpaquePointer?
      _ = swo_migration_new(loop, &migration)
      _ = swo_migration_set_monitor(migration, 1, "fd:\(pair.source.library)")
      _ = swo_migration_set_monitor(migration, 2, "fd:\(pair.target.library)")
      _ = swo_migration_set_uri(migration, "unix:/nowhere")
      _ = swo_migration_set_hand_over(migration, 3)
      _ = swo_migration_set_source_end(migration, 1)
      if let journal { _ = swo_migration_set_journal(migration, journal) }
      let started = swo_migration_start(migration)
      precondition(started == 0, String(cString: swo_last_error()))
      migrations.append(migration)
    }
    return stops
  }
}

/// Two scripted monitors, just true enough for one migration.
final class SimulatedPair: @unchecked Sendable {
  let source = SimulatedMonitor(isTarget: false)
  let target = SimulatedMonitor(isTarget: true)

  /// Answers everything up to `migrate`.
  func reachActive() {
    source.greet()
    target.greet()
    while !source.hasSeen("\"migrate\"") {
      source.serve(upTo: 1)
      target.serve(upTo: 1)
    }
    source.event("MIGRATION", "{\"status\": \"active\"}")
  }

  func reachStop() {
    source.event("STOP", nil)
    source.runState = "finish-migrate"
    while !source.hasSeenAfterStop { source.serve(upTo: 1) }
  }

  /// Microseconds.
  func measureGrant() -> Double {
    let start = nanoseconds()
    source.event("MIGRATION", "{\"status\": \"completed\"}")
    target.waitUntilReadable()
    return Double(nanoseconds() - start) / 1000
  }

  func finish() {
    target.serve(upTo: 100)
    target.event("RESUME", nil)
    for _ in 0..<200 where !source.isEnded {
      target.serve(upTo: 1)
      source.serve(upTo: 1)
    }
    close()
  }

  func close() {
    source.close()
    target.close()
  }
}

/// Serves the idle migrations' once-a-second questions.
final class BackgroundMonitors: @unchecked Sendable {
  private let pairs: [SimulatedPair]
  private let end = makePair()

  init(_ pairs: [SimulatedPair]) { self.pairs = pairs }

  func stop() {
    var byte: UInt8 = 1
    _ = write(end.0, &byte, 1)
  }

  func run() {
    var watched = [pollfd(fd: end.1, events: Int16(POLLIN), revents: 0)]
    watched += pairs.map { pollfd(fd: $0.source.own, events: Int16(POLLIN), revents: 0) }
    while true {
      poll(&watched, nfds_t(watched.count), -1)
      if watched[0].revents != 0 { return }
      for (index, pair) in pairs.enumerated() where watched[index + 1].revents != 0 {
        pair.source.serve(upTo: 0)
        if pair.source.isEnded { watched[index + 1].fd = -1 }
      }
    }
  }
}

final class SimulatedMonitor: @unchecked Sendable {
  let own: Int32
  let library: Int32
  let isTarget: Bool
  var runState: String
  private(set) var isEnded = false
  private(set) var hasSeenAfterStop = false
  private var text = ""
  private var seen: Set<String> = []

  init(isTarget: Bool) {
    (own, library) = makePair()
    self.isTarget = isTarget
    runState = isTarget ? "inmigrate" : "running"
  }

  func close() {
    _ = Glibc.close(own)
    _ = Glibc.close(library)
  }

  func greet() {
    send(
      "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, \"package\": \"\"}, "
        + "\"capabilities\": []}}\r\n")
  }

  func event(_ name: String, _ data: String?) {
    let data = data.map { ", \"data\": \($0)" } ?? ""
    send(
      "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 1}, \"event\": \"\(name)\"\(data)}\r\n"
    )
  }

  func hasSeen(_ command: String) -> Bool { seen.contains(command) }

  /// The value of the reply to `query-migrate` while RAM travels.
  private static let report = String(
    CodecBenchmark.report.dropFirst("{\"return\": ".count).dropLast(", \"id\": ".count))

  func waitUntilReadable() {
    var watched = pollfd(fd: own, events: Int16(POLLIN), revents: 0)
    poll(&watched, 1, 10_000)
  }

  /// Answers what has come within so many milliseconds.
  func serve(upTo milliseconds: Int32) {
    var watched = pollfd(fd: own, events: Int16(POLLIN), revents: 0)
    guard poll(&watched, 1, milliseconds) > 0 else { return }
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = recv(own, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    guard count > 0 else {
      isEnded = count == 0
      return
    }
    text += String(decoding: buffer[0..<count], as: UTF8.self)
    while let end = text.firstIndex(of: "\n") {
      answer(String(text[..<end]))
      text = String(text[text.index(after: end)...])
    }
  }

  private func answer(_ line: String) {
    func value(after key: String) -> String? {
      guard let range = line.range(of: key) else { return nil }
      return String(line[range.upperBound...].prefix { $0 != "," && $0 != "}" })
    }
    guard let command = value(after: "\"execute\":"), let id = value(after: "\"id\":") else {
      return
    }
    seen.insert(command)
    if command == "\"quit\"" { isEnded = true }
    let reply: String
    switch command {
    case "\"query-status\"":
      reply = "{\"status\": \"\(runState)\", \"running\": \(runState == "running")}"
      if runState == "finish-migrate" { hasSeenAfterStop = true }
    case "\"query-migrate\"":
      reply =
        isTarget
        ? "{\"socket-address\": []}"
        : (seen.contains("\"migrate\"") ? Self.report : "{}")
    case "\"query-migrate-capabilities\"":
      reply =
        "["
        + ["events", "return-path", "pause-before-switchover", "late-block-activate"]
        .map { "{\"state\": false, \"capability\": \"\($0)\"}" }.joined(separator: ", ") + "]"
    case "\"query-migrate-parameters\"": reply = "{\"max-bandwidth\": 1, \"downtime-limit\": 300}"
    case "\"qom-get\"": reply = "\"pc-machine\""
    case "\"query-memory-size-summary\"": reply = "{\"base-memory\": 1, \"plugged-memory\": 0}"
    default: reply = "{}"
    }
    send("{\"return\": \(reply), \"id\": \(id)}\r\n")
  }

  private func send(_ text: String) {
    var text = text
    text.withUTF8 { _ = Glibc.send(own, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }
}

extension String {
  fileprivate func range(of wanted: String) -> Range<String.Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(wanted) {
        return start..<index(start, offsetBy: wanted.count)
      }
      start = index(after: start)
    }
    return nil
  }
}
