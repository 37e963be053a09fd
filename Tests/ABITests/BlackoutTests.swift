import Foundation
import QEMUHarness
import Testing

/// Between the guest's stop on the source and its start on the target nothing happens that could
/// happen before or after.
@Suite("The blackout", .serialized)
struct BlackoutTests {
  /// How often memory may be asked for in the blackout: twice of what was measured.
  static let allocationLimit = 300

  @Test(
    "the process receives, sends, waits and sets its timer, and asks for nothing else",
    arguments: QEMUVersion.allCases)
  func systemCalls(version: QEMUVersion) throws {
    let pair = try QEMUPair(.init(version))
    let trace = pair.directory.file("trace")
    let program = try BuiltLibrary.compile(
      "migrate", of: BuiltLibrary.examples, in: pair.directory)
    try Command(
      ["strace", "-f", "-yy", "-s", "4096", "-o", trace, program] + pair.addresses,
      in: pair.directory
    ).expectSuccess()
    let calls = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n")
    let begin = try #require(calls.firstIndex { $0.contains("recv") && $0.contains(#"\"STOP\""#) })
    let end = try #require(
      calls[begin...].firstIndex { $0.contains("send") && $0.contains(#"\"cont\""#) })
    print("from STOP to cont: \(end - begin - 1) system calls")
    for call in calls[begin...end] {
      #expect(isAllowed(call), "\(call)")
    }
  }

  /// Also not by the ssh that is a child.
  @Test("by ssh nothing is set up either", arguments: Carrier.allCases)
  func setUpBySSH(carrier: Carrier) throws {
    let pair = try QEMUPair()
    let server = try SSHServer()
    let trace = pair.directory.file("trace")
    let program = try BuiltLibrary.compile(
      "children", of: BuiltLibrary.programs, in: pair.directory)
    var addresses = pair.addresses
    addresses[1] = server.address(addresses[1])
    try Command(
      ["strace", "-f", "-s", "4096", "-o", trace, program, "plain"] + addresses
        + ["\(carrier.rawValue)"] + server.command(), in: pair.directory
    ).expectSuccess()
    let calls = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n")
    let begin = try #require(calls.firstIndex { $0.contains("recv") && $0.contains(#"\"STOP\""#) })
    let end = try #require(
      calls[begin...].firstIndex { $0.contains("recv") && $0.contains(#"\"RESUME\""#) })
    #expect(calls[begin...end].contains { $0.contains("send") && $0.contains(#"\"cont\""#) })
    let setUp = #/^\d+ +(socket|connect|accept4?|v?fork|clone3?|execve|open(at)?|unlink(at)?)\(/#
    #expect(calls.contains { $0.prefixMatch(of: setUp) != nil })
    for call in calls[begin...end] { #expect(call.prefixMatch(of: setUp) == nil, "\(call)") }
  }

  @Test("memory is hardly asked for", arguments: QEMUVersion.allCases)
  func allocations(version: QEMUVersion) throws {
    let pair = try QEMUPair(.init(version))
    let counter = try BuiltLibrary.compile(
      "count-allocations", of: BuiltLibrary.programs, in: pair.directory,
      options: ["-shared", "-fPIC", "-ldl"])
    let program = try BuiltLibrary.compile(
      "migrate", of: BuiltLibrary.examples, in: pair.directory)
    let report = pair.directory.file("allocations")
    try Command(
      [program] + pair.addresses,
      environment: ["LD_PRELOAD": counter, "COUNT_ALLOCATIONS_TO": report], in: pair.directory
    ).expectSuccess()
    let text = try String(contentsOfFile: report, encoding: .utf8)
    print("from STOP to cont: \(text)")
    let numbers = text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
    try #require(numbers.count == 2, "\(text)")
    #expect(numbers[0] <= Self.allocationLimit)
  }

  /// Sockets are received from and sent to; the rest touches the loop's own three descriptors.
  private func isAllowed(_ call: Substring) -> Bool {
    let pattern = #/^\d+ +(?:<\.\.\. )?(\w+)(?:\((\d+<[^>]*(?:>|\]>)?))?/#
    guard let match = call.prefixMatch(of: pattern) else { return false }
    let descriptor = match.2.map(String.init) ?? ""
    switch match.1 {
    case "recvfrom", "recvmsg", "sendto", "sendmsg": return true
    case "read", "write": return descriptor.contains("eventfd") || descriptor.contains("timerfd")
    case "epoll_wait", "epoll_pwait", "epoll_ctl", "timerfd_settime", "clock_gettime": return true
    default: return false
    }
  }
}
