import QMP
import Testing

/// QEMU can send the late reply of one client to the next one.
struct StaleReplyTests {
  private func feed(_ session: inout QMPSession, _ text: String) -> [QMPNotice] {
    var notices: [QMPNotice] = []
    var text = text
    text.withUTF8 { session.received(UnsafeRawBufferPointer($0), notices: &notices) }
    return notices
  }

  private static let greeting =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, "
    + "\"capabilities\": [\"oob\"]}}\r\n"

  @Test func aReplyBeforeTheGreetingIsSomebodyElses() {
    var session = QMPSession(wantsOutOfBand: false, firstID: 5_000)
    #expect(feed(&session, "{\"return\": {}, \"id\": 0}\r\n") == [])
    #expect(session.unknownReplies == 1)
    #expect(feed(&session, Self.greeting) == [])
    #expect(feed(&session, "{\"return\": {}, \"id\": 5000}\r\n").count == 1)
    #expect(session.state == .ready)
  }

  @Test func aReplyToTheClientBeforeIsNotTakenForOurs() throws {
    var session = QMPSession(wantsOutOfBand: false, firstID: 7_000)
    _ = feed(&session, Self.greeting)
    // The client before negotiated with 0 and counted on.
    #expect(feed(&session, "{\"return\": {}, \"id\": 0}\r\n") == [])
    #expect(session.state == .negotiating)
    _ = feed(&session, "{\"return\": {}, \"id\": 7000}\r\n")
    let id = try session.execute("cont", deadlineNanoseconds: nil)
    #expect(feed(&session, "{\"return\": {}, \"id\": 1}\r\n") == [])
    #expect(feed(&session, "{\"return\": {}, \"id\": \(id.rawValue)}\r\n").count == 1)
  }
}
