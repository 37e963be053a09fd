import Glibc
import Platform
import Testing

extension PlatformTests {
  @Suite struct ProgramOutputs {
    @Test func bringsBothStreamsAndTheEnd() throws {
      let result = try ProgramOutput(
        of: ["sh", "-c", "echo out; echo err >&2; exit 3"], limit: 100,
        withinMilliseconds: 60_000)
      #expect(result.output == Array("out\n".utf8))
      #expect(result.error == Array("err\n".utf8))
      #expect(result.status == .exited(code: 3))
    }

    @Test func endsAProgramThatSaysTooMuch() throws {
      let result = try ProgramOutput(of: ["yes"], limit: 10_000, withinMilliseconds: 60_000)
      #expect(result.output.count > 10_000 && result.output.count < 20_000)
    }

    @Test func endsAProgramThatTakesTooLong() throws {
      let result = try ProgramOutput(
        of: ["sleep", "600"], limit: 100, withinMilliseconds: 50)
      #expect(result.status == .running)
      #expect(result.output.isEmpty)
    }

    @Test func saysWhyAProgramDoesNotStart() {
      #expect(throws: SystemError.self) {
        try ProgramOutput(of: ["/nonexistent"], limit: 1, withinMilliseconds: 1)
      }
    }

    @Test func endsAChildAndWaitsForThat() throws {
      let child = try ChildProcess(arguments: ["sh", "-c", "trap '' TERM; sleep 600"])
      child.end(withinMilliseconds: 60_000)
      #expect(child.reap() == .signalled(signal: SIGKILL))
      child.end(withinMilliseconds: 60_000)
    }

    @Test func pairsTalk() throws {
      let (left, right) = try StreamSocket.pair()
      let bytes = Array("x".utf8)
      #expect(try bytes.withUnsafeBytes { try StreamSocket.send($0, to: left) } == .moved(1))
      StreamSocket.endSending(left)
      var room = [UInt8](repeating: 0, count: 4)
      #expect(
        try room.withUnsafeMutableBytes { try StreamSocket.receive(right, into: $0) } == .moved(1))
      #expect(
        try room.withUnsafeMutableBytes { try StreamSocket.receive(right, into: $0) }
          == .endOfStream)
      #expect(try bytes.withUnsafeBytes { try StreamSocket.send($0, to: right) } == .moved(1))
    }

    @Test func knowsItsUser() {
      #expect(HostFacts.homeDirectory?.hasPrefix("/") == true)
      #expect(HostFacts.userName?.isEmpty == false)
      #expect(HostFacts.environment("PATH")?.isEmpty == false)
      #expect(HostFacts.environment("NO_SUCH_VARIABLE") == nil)
    }
  }
}
