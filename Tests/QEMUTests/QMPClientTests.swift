import CSwitchover
import Foundation
import QEMUHarness
import SwitchoverABI
import Testing

extension RealQEMUs {
  @Suite("A QMP client alone")
  struct QMPClients {
    @Test("by path, with and without the word for it", arguments: QEMUVersion.allCases)
    func path(version: QEMUVersion) throws {
      let situation = try Situation(version)
      for address in ["unix:", ""].map({ $0 + situation.source.monitorPaths[0] }) {
        let client = try QMPClientUnderTest(address)
        let number = version.number
        #expect(client.version >> 8 == UInt32(number.major << 8 | number.minor))
        #expect(try client.execute("query-status")["status"]?.string == "running")
        #expect(
          try client.execute(
            "human-monitor-command", #"{"command-line": "info name"}"#
          ).string?.contains("source") == true)
      }
    }

    @Test("by inherited descriptor", arguments: QEMUVersion.allCases)
    func descriptor(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let socket = try ConnectedSocket(path: situation.source.monitorPaths[0])
      let client = try QMPClientUnderTest("fd:\(socket.descriptor)")
      socket.close()
      #expect(try client.execute("query-status")["status"]?.string == "running")
    }

    @Test("over TCP", arguments: QEMUVersion.allCases)
    func tcp(version: QEMUVersion) throws {
      let situation = try Situation(version) {
        $0.sourceArguments = [
          "-chardev", "socket,id=remote,host=127.0.0.1,port=0,server=on,wait=off",
          "-mon", "chardev=remote,mode=control",
        ]
      }
      let devices = try situation.source.monitor.execute("query-chardev").array ?? []
      let remote = devices.first { $0["label"]?.string == "remote" }?["filename"]?.string ?? ""
      let port = try #require(remote.firstMatch(of: #/127\.0\.0\.1:(\d+)/#)).1
      let client = try QMPClientUnderTest("tcp:127.0.0.1:\(port)")
      #expect(try client.execute("query-status")["status"]?.string == "running")
    }

    @Test("QEMU's refusals are told by class and text", arguments: QEMUVersion.allCases)
    func refusal(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let client = try QMPClientUnderTest("unix:\(situation.source.monitorPaths[0])")
      for (command, arguments, errorClass) in [
        ("no-such-command", nil, "CommandNotFound"), ("getfd", nil, "GenericError"),
        ("device_del", #"{"id": "nothing"}"#, "DeviceNotFound"),
      ] as [(String, String?, String)] {
        let answer = client.answer(command, arguments)
        #expect(answer.code == .SWO_E_QMP)
        #expect(try JSONValue(text: answer.text)["class"]?.string == errorClass, "\(answer)")
      }
      // None of this has hurt the connection.
      #expect(try client.execute("query-status")["status"]?.string == "running")
    }

    @Test("a large answer comes whole, and numbers stay exact", arguments: QEMUVersion.allCases)
    func large(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let client = try QMPClientUnderTest("unix:\(situation.source.monitorPaths[0])")
      let answer = client.answer("query-qmp-schema")
      #expect(answer.code == .SWO_OK)
      #expect(answer.text.utf8.count > 100_000)
      #expect(try (JSONValue(text: answer.text).array?.count ?? 0) > 500)
      _ = try client.execute(
        "migrate-set-parameters", #"{"max-bandwidth": 9007199254740993}"#)
      let parameters = try client.execute("query-migrate-parameters")
      #expect(parameters["max-bandwidth"]?.integer == 9_007_199_254_740_993)
    }

    @Test(
      "a QEMU that does not answer in time is left, and heard again",
      arguments: QEMUVersion.allCases)
    func deadline(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let client = try QMPClientUnderTest("unix:\(situation.source.monitorPaths[0])")
      situation.source.kill(signal: SIGSTOP)
      #expect(client.answer("query-name", nil, milliseconds: 100).code == .SWO_E_TIMEOUT)
      situation.source.kill(signal: SIGCONT)
      // The late answer is not taken for this one's.
      #expect(try client.execute("query-status")["status"]?.string == "running")
    }

    @Test("events come while and after a command waits", arguments: QEMUVersion.allCases)
    func events(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let client = try QMPClientUnderTest("unix:\(situation.source.monitorPaths[0])")
      for command in ["stop", "cont", "stop"] { _ = try client.execute(command) }
      let events = try client.waitForEvents(3)
      #expect(events.map(\.name) == ["STOP", "RESUME", "STOP"])
      #expect(events.map(\.time) == events.map(\.time).sorted())
      // Whatever happened before a command's reply has been read with that.
      #expect(try situation.source.monitor.runState() == "paused")
      let own = situation.source.monitor.events.filter { ["STOP", "RESUME"].contains($0.name) }
      #expect(own.map(\.timestampMicroseconds) == events.map(\.time))
      // What somebody else does is heard as well.
      try situation.source.monitor.execute("cont")
      #expect(try client.waitForEvents(1).map(\.name) == ["RESUME"])
      situation.expectGuestRuns(on: .source)
    }

    @Test("a descriptor is passed, and stays ours", arguments: QEMUVersion.allCases)
    func passing(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let wire = try SocketPair()
      let source = try QMPClientUnderTest("unix:\(situation.source.monitorPaths[0])")
      let target = try QMPClientUnderTest("unix:\(situation.target.monitorPaths[0])")
      try source.pass(wire.first, as: "out")
      try target.pass(wire.second, as: "in")
      #expect(fcntl(wire.first, F_GETFD) >= 0)
      wire.close()
      _ = try target.execute("migrate-incoming", #"{"uri": "fd:in"}"#)
      _ = try source.execute("migrate", #"{"uri": "fd:out"}"#)
      try situation.source.monitor.waitForRunState("postmigrate")
      _ = try target.execute("cont")
      situation.expectGuestRuns(on: .target)
    }

    @Test("a monitor that another client holds is said to be busy", arguments: QEMUVersion.allCases)
    func busy(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let address = "unix:\(situation.source.monitorPaths[0])"
      let holder = try QMPClientUnderTest(address)
      for _ in 0..<4 {
        // More than the listening socket's queue holds.
        let trouble = QMPClientUnderTest.trouble(address, milliseconds: 200)
        #expect(trouble.code == .SWO_E_BUSY)
        #expect(trouble.text.contains("monitor busy: another client holds it"), "\(trouble)")
      }
      #expect(try holder.execute("query-status")["status"]?.string == "running")
      holder.close()
      let next = try QMPClientUnderTest(address)
      #expect(try next.execute("query-status")["status"]?.string == "running")
    }

    @Test("a QEMU that ends loses what it was asked", arguments: QEMUVersion.allCases)
    func end(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let client = try QMPClientUnderTest("unix:\(situation.source.monitorPaths[0])")
      situation.source.kill(signal: SIGSTOP)
      situation.source.kill()
      let answer = client.answer("query-status")
      #expect([.SWO_E_LOST, .SWO_E_CLOSED].contains(answer.code), "\(answer)")
      #expect(client.answer("query-status").code == .SWO_E_CLOSED)
    }
  }
}

/// A QMP client of the C interface, in a loop of its own.
final class QMPClientUnderTest {
  private let loop: OpaquePointer
  private var qmp: OpaquePointer?
  private static let limit: Int32 = 60_000

  init(_ address: String) throws {
    var made: OpaquePointer?
    guard swo_loop_new(&made) == 0, let loop = made else { throw HarnessError("no loop") }
    self.loop = loop
    guard swo_qmp_connect(loop, address, 0, Self.limit, &qmp) == 0 else {
      throw HarnessError(String(cString: swo_last_error()))
    }
  }

  deinit {
    close()
    swo_loop_free(loop)
  }

  func close() {
    swo_qmp_free(qmp)
    qmp = nil
  }

  var version: UInt32 { swo_qmp_version(qmp) }

  /// What a connection that does not succeed says.
  static func trouble(_ address: String, milliseconds: Int32) -> (code: swo_code, text: String) {
    var (loop, qmp): (OpaquePointer?, OpaquePointer?)
    guard swo_loop_new(&loop) == 0 else { return (.SWO_E_INTERNAL, "no loop") }
    defer { swo_loop_free(loop) }
    let code = swo_qmp_connect(loop, address, 0, milliseconds, &qmp)
    defer { swo_qmp_free(qmp) }
    return (swo_code(rawValue: code) ?? .SWO_E_INTERNAL, String(cString: swo_last_error()))
  }

  /// The code, and the value or QEMU's error object as JSON.
  func answer(
    _ command: String, _ arguments: String? = nil, milliseconds: Int32 = limit
  ) -> (code: swo_code, text: String) {
    var reply: UnsafePointer<CChar>?
    let code = swo_qmp_execute(qmp, command, arguments, milliseconds, &reply)
    return (
      swo_code(rawValue: code) ?? .SWO_E_INTERNAL, reply.map { String(cString: $0) } ?? ""
    )
  }

  func execute(_ command: String, _ arguments: String? = nil) throws -> JSONValue {
    let answer = answer(command, arguments)
    guard answer.code == .SWO_OK else {
      throw HarnessError("\(command): \(answer) \(String(cString: swo_last_error()))")
    }
    return try JSONValue(text: answer.text)
  }

  func pass(_ descriptor: Int32, as name: String) throws {
    guard swo_qmp_pass_fd(qmp, name, descriptor, Self.limit) == 0 else {
      throw HarnessError(String(cString: swo_last_error()))
    }
  }

  /// The next events of QEMU.
  func waitForEvents(_ count: Int) throws -> [(name: String, time: Int64)] {
    var events: [(String, Int64)] = []
    let deadline = MonotonicTime.now + .seconds(60)
    while events.count < count {
      guard .now < deadline else { throw HarnessError("only \(events)") }
      _ = swo_loop_dispatch(loop, 100)
      var event: OpaquePointer?
      while events.count < count, swo_loop_next_event(loop, &event) == 1 {
        if swo_event_kind_of(event) == Int32(swo_event_kind.SWO_EVENT_QMP_EVENT.rawValue) {
          events.append((String(cString: swo_event_name(event)), swo_event_time_us(event)))
        }
        swo_event_free(event)
      }
    }
    return events
  }
}

extension JSONValue {
  init(text: String) throws { try self.init(text: Data(text.utf8)) }
}
