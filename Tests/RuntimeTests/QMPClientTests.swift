import Foundation
import MigrationEngine
import MigrationSession
import Platform
import QMP
import Testing

@testable import Runtime

extension RuntimeTests {
  @Suite struct QMPClientTests {
    let directory: TestDirectory

    init() throws { directory = try TestDirectory() }

    @Test func connectsAsksAndHears() throws {
      let monitor = try ScriptedMonitor(in: directory) { command, id in
        switch command {
        case "ask":
          [
            #"{"event":"BEFORE","timestamp":{"seconds":5,"microseconds":7}}"#,
            #"{"return":{"size":18446744073709551615},"id":\#(id)}"#,
          ]
        case "fail": [#"{"error":{"class":"GenericError","desc":"no \u00fc"},"id":\#(id)}"#]
        default: []
        }
      }
      defer { monitor.stop() }
      let loop = try Loop()
      let client = try QMPClient(
        in: loop, endpoint: .unix(path: monitor.path), wantsOutOfBand: false,
        within: .seconds(20), announces: true)
      #expect(throws: SubmitError.notReady) {
        try client.submit("ask", arguments: nil, within: nil)
      }
      var events: [LoopEvent] = []
      try loop.wait(collecting: &events) { $0.isEmpty ? nil : true }
      #expect(events.map(Self.text) == ["ready"])
      #expect(client.version == QMPVersion(major: 7, minor: 2, micro: 22))

      let first = try client.submit("ask", arguments: ["a": 1], within: .seconds(20))
      let second = try client.submit("fail", arguments: nil, within: .seconds(20))
      #expect(second > first)
      try loop.wait(collecting: &events) { $0.count == 4 ? true : nil }
      #expect(
        events.dropFirst().map(Self.text) == [
          "BEFORE null 5000007",
          #"\#(first): {"size":18446744073709551615}"#,
          #"\#(second): failed no ü {"class":"GenericError","desc":"no ü"}"#,
        ])
      #expect(
        monitor.received.map { String(decoding: JSONText.encode($0), as: UTF8.self) } == [
          #"{"execute":"qmp_capabilities","id":\#(monitor.negotiationID)}"#,
          #"{"execute":"ask","arguments":{"a":1},"id":\#(first)}"#,
          #"{"execute":"fail","id":\#(second)}"#,
        ])
      #expect(throws: SubmitError.outOfBandUnavailable) {
        try client.submit("ask", arguments: nil, outOfBand: true, within: nil)
      }
    }

    @Test func waitsForOneAnswerAndKeepsTheRest() throws {
      let monitor = try ScriptedMonitor(in: directory) { command, id in
        [#"{"event":"DURING"}"#, #"{"return":"\#(command)","id":\#(id)}"#]
      }
      defer { monitor.stop() }
      let loop = try Loop()
      let client = try readyClient(in: loop, at: monitor.path, outOfBand: true)
      let other = try client.submit("other", arguments: nil, outOfBand: true, within: nil)
      let reply = try client.execute("one", arguments: nil, within: .seconds(20))
      #expect(reply?.outcome == .returned(Array(#""one""#.utf8)))
      var events: [LoopEvent] = []
      while let event = try loop.nextEvent() { events.append(event) }
      #expect(
        events.map(Self.text) == ["DURING null nil", #"\#(other): "other""#, "DURING null nil"])
      #expect(!loop.isReadable)
    }

    @Test func aMissingAnswerIsUnknownAndALateOneDropped() throws {
      let monitor = try ScriptedMonitor(in: directory) { command, id in
        command == "silent" ? [] : [#"{"return":{},"id":\#(id)}"#]
      }
      defer { monitor.stop() }
      let loop = try Loop()
      let client = try readyClient(in: loop, at: monitor.path)
      let reply = try client.execute("silent", arguments: nil, within: .milliseconds(30))
      let id = try #require(reply?.id)
      #expect(reply?.outcome == .timedOut)
      monitor.say(#"{"return":{},"id":\#(id)}"#)
      let next = try client.execute("speaks", arguments: nil, within: .seconds(20))
      #expect(next?.outcome == .returned(Array("{}".utf8)))
      #expect(loop.waitingEvents == 0)

      let lost = try client.submit("silent", arguments: nil, within: .seconds(20))
      monitor.hangUp()
      var events: [LoopEvent] = []
      try loop.wait(collecting: &events) { $0.count == 2 ? true : nil }
      #expect(events.map(Self.text).first == "\(lost): lost")
      guard case .lost? = client.end else {
        Issue.record("ended as \(String(describing: client.end))")
        return
      }
      #expect(throws: SubmitError.closed) {
        try client.submit("speaks", arguments: nil, within: nil)
      }
    }

    @Test func anInterruptedWaitDropsItsAnswer() throws {
      let monitor = try ScriptedMonitor(in: directory) { _, _ in [] }
      defer { monitor.stop() }
      let path = monitor.path
      let code = inFork {
        let loop = try Loop()
        let client = try readyClient(in: loop, at: path)
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGALRM, &action, nil)
        let moment = timeval(tv_sec: 0, tv_usec: 20_000)
        var timer = itimerval(it_interval: timeval(), it_value: moment)
        setitimer(0, &timer, nil)
        let reply = try client.execute("silent", arguments: nil, within: .seconds(15))
        return reply == nil && loop.waitingEvents == 0 ? 0 : 1
      }
      #expect(code == 0)
    }

    @Test func whoCannotConnectLearnsWhy() throws {
      let loop = try Loop()
      let silent = try ScriptedMonitor(in: directory, name: "silent", greets: false, backlog: 0)
      #expect(
        try end(loop, .unix(path: directory.file("none"))) == .unreachable(text: "no such socket"))
      #expect(try end(loop, .unix(path: silent.path), milliseconds: 50) == .busy)
      // That client still waits in the listener's queue; now it is full.
      #expect(try end(loop, .unix(path: silent.path), milliseconds: 50) == .busy)
      guard case .unreachable? = try end(loop, .tcp(host: "127.0.0.1", port: 1)) else {
        Issue.record("a closed port")
        return
      }
      #expect(throws: RouteError.self) { try end(loop, .descriptor(-1)) }
      #expect(throws: RouteError.self) {
        try end(loop, .unix(path: String(repeating: "x", count: 108)))
      }
      #expect(throws: RouteError.self) { try end(loop, .tcp(host: "no host", port: 1)) }
    }

    @Test func whatDoesNotSpeakQMPIsClosed() throws {
      var pair: [Int32] = [-1, -1]
      try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
      defer { for number in pair { close(number) } }
      _ = write(pair[1], "SSH-2.0-OpenSSH\r\n", 17)
      let loop = try Loop()
      guard case .protocolViolated? = try end(loop, .descriptor(pair[0])) else {
        Issue.record("accepted")
        return
      }
      // The host program's own descriptor is as it was: open, connected and blocking.
      #expect(fcntl(pair[0], F_GETFL) & O_NONBLOCK == 0)
      #expect(write(pair[0], "x", 1) == 1)
    }

    @Test func anInheritedDescriptorIsUsed() throws {
      var pair: [Int32] = [-1, -1]
      try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
      defer { close(pair[1]) }
      let loop = try Loop()
      let client = try QMPClient(
        in: loop, endpoint: .descriptor(pair[0]), wantsOutOfBand: false, within: .seconds(20),
        announces: true)
      close(pair[0])
      try negotiate(on: pair[1], in: loop)
      #expect(try loop.wait { client.isReady })
    }

    @Test func whatASlowMonitorDoesNotTakeWaitsAndArrivesWhole() throws {
      var pair: [Int32] = [-1, -1]
      try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
      defer { for number in pair { close(number) } }
      let loop = try Loop()
      let client = try QMPClient(
        in: loop, endpoint: .descriptor(pair[0]), wantsOutOfBand: false, within: .seconds(20),
        announces: false)
      try negotiate(on: pair[1], in: loop)
      #expect(try loop.wait { client.isReady })
      let padding = JSONValue.string(String(repeating: "p", count: 1 << 20))
      var count = 0
      while count < 100 {
        do throws(SubmitError) {
          _ = try client.submit(
            "fill", arguments: ["number": .integer(Int64(count)), "p": padding], within: nil)
        } catch {
          #expect(error == .limit)
          break
        }
        count += 1
      }
      #expect((8..<100).contains(count))
      let reader = pair[1]
      let expected = count
      let numbers = ResultBox()
      Thread.detachNewThread { numbers.store(Self.readCommands(from: reader, count: expected)) }
      #expect(try loop.wait { numbers.value != nil })
      #expect(numbers.value == (0..<count).map { Int64($0) })
      #expect(!loop.isReadable)
    }

    @Test func aFloodOfEventsThatNobodyTakesClosesTheConnection() throws {
      let monitor = try ScriptedMonitor(in: directory)
      defer { monitor.stop() }
      let loop = try Loop()
      let client = try readyClient(in: loop, at: monitor.path)
      let event = #"{"event":"NOISE","data":{"text":"\#(String(repeating: "n", count: 300))"}}"#
      Thread.detachNewThread {
        for _ in 0..<(2 * QMPClient.eventLimit) { monitor.say(event) }
      }
      #expect(try loop.wait { client.end != nil })
      #expect(client.end == .overflowed)
      #expect(loop.waitingEvents == QMPClient.eventLimit + 1)
      var last = ""
      while let event = try loop.nextEvent() { last = Self.text(event) }
      #expect(last == "closed overflowed")
    }

    @Test func fiveHundredClientsShareALoop() throws {
      let loop = try Loop()
      let silent = try ScriptedMonitor(in: directory, name: "silent", greets: false, backlog: 600)
      let clients = try (0..<500).map { number in
        try QMPClient(
          in: loop, endpoint: .unix(path: silent.path), wantsOutOfBand: false,
          within: .milliseconds(1500 + Int64(number % 7)), announces: false)
      }
      let monitor = try ScriptedMonitor(in: directory)
      defer { monitor.stop() }
      let speaking = try readyClient(in: loop, at: monitor.path)
      for _ in 0..<100 {
        let reply = try speaking.execute("ask", arguments: nil, within: .seconds(20))
        #expect(reply?.outcome == .returned(Array("{}".utf8)))
      }
      #expect(try loop.wait { clients.allSatisfy { $0.end != nil } })
      #expect(clients.allSatisfy { $0.end == .busy })
    }

    @Test func aMonitorThatDripsIsUnderstood() throws {
      var pair: [Int32] = [-1, -1]
      try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
      defer { for number in pair { close(number) } }
      let loop = try Loop()
      let client = try QMPClient(
        in: loop, endpoint: .descriptor(pair[0]), wantsOutOfBand: false, within: .seconds(20),
        announces: true)
      try negotiate(on: pair[1], in: loop, bytesAtOnce: 1)
      #expect(client.isReady)
    }

    // MARK: - Support

    private func end(
      _ loop: Loop, _ endpoint: Endpoint, milliseconds: Int64 = 20_000
    ) throws -> ClientEnd? {
      let client = try QMPClient(
        in: loop, endpoint: endpoint, wantsOutOfBand: false, within: .milliseconds(milliseconds),
        announces: false)
      defer { client.close() }
      _ = try loop.wait { client.isReady || client.end != nil }
      return client.end
    }

    private static func text(_ event: LoopEvent) -> String {
      switch event.content {
      case .clientReady: return "ready"
      case .clientClosed(let end): return "closed \(end)"
      case .happened(let name, let json, let time):
        let instant = time.map(String.init) ?? "nil"
        return "\(name) \(String(decoding: json, as: UTF8.self)) \(instant)"
      case .replied(let reply):
        switch reply.outcome {
        case .returned(let json): return "\(reply.id): \(String(decoding: json, as: UTF8.self))"
        case .failed(let error, let json):
          return "\(reply.id): failed \(error.text) \(String(decoding: json, as: UTF8.self))"
        case .timedOut: return "\(reply.id): timed out"
        case .lost: return "\(reply.id): lost"
        }
      default: return "\(event.content)"
      }
    }

    private static func readCommands(from number: Int32, count: Int) -> [Int64] {
      var line = Data()
      var found: [Int64] = []
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      while found.count < count {
        let received = recv(number, &buffer, buffer.count, 0)
        if received <= 0 { break }
        var rest = Data(buffer[..<received])
        while let end = rest.firstIndex(of: 10) {
          line.append(rest[..<end])
          rest = Data(rest[(end + 1)...])
          let value = line.withUnsafeBytes { try? JSONText.decode($0) }
          if let number = value?["arguments"]?["number"]?.int64 { found.append(number) }
          line = Data()
        }
        line.append(rest)
      }
      return found
    }
  }
}

/// A result that a thread leaves for the test.
private final class ResultBox: @unchecked Sendable {
  private let lock = NSLock()
  private var stored: [Int64]?
  var value: [Int64]? { lock.withLock { stored } }
  func store(_ value: [Int64]) { lock.withLock { stored = value } }
}
