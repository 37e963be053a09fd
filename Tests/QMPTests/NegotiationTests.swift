import QMP
import Testing

@Suite struct NegotiationTests {
  @Test func greetingIsAnsweredWithCapabilities() {
    var conversation = Conversation()
    #expect(conversation.session.state == .awaitingGreeting)
    #expect(conversation.takeText() == "")
    conversation.feed(Conversation.greeting)
    #expect(conversation.session.state == .negotiating)
    #expect(conversation.takeText() == #"{"execute":"qmp_capabilities","id":0}"# + "\n")
    conversation.feed(#"{"return": {}, "id": 0}"#)
    let greeting = QMPGreeting(version: Conversation.version, offersOutOfBand: true)
    #expect(conversation.takeNotices() == [.ready(greeting, outOfBand: false)])
    #expect(conversation.session.state == .ready)
  }

  @Test func outOfBandIsUsedOnlyWhereOffered() throws {
    var conversation = Conversation(wantsOutOfBand: true)
    conversation.feed(
      #"{"QMP":{"capabilities":[],"version":{"qemu":{"major":10,"minor":0,"micro":0}}}}"#)
    #expect(conversation.takeText() == #"{"execute":"qmp_capabilities","id":0}"# + "\n")
    conversation.feed(#"{"id":0,"return":{}}"#)
    let greeting = QMPGreeting(
      version: QMPVersion(major: 10, minor: 0, micro: 0), offersOutOfBand: false)
    #expect(conversation.takeNotices() == [.ready(greeting, outOfBand: false)])
    #expect(throws: QMPSessionError.outOfBandUnavailable) {
      try conversation.session.execute("yank", outOfBand: true, deadlineNanoseconds: nil)
    }
    #expect(conversation.takeText() == "")
  }

  @Test func commandsAreHeldBackUntilNegotiatedThenTravelTogether() throws {
    var conversation = Conversation(wantsOutOfBand: true)
    let first = try conversation.session.execute("nbd-server-stop", deadlineNanoseconds: nil)
    conversation.feed(Conversation.greeting)
    let second = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    #expect(
      conversation.takeText()
        == #"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}"# + "\n")
    // A reply to what was never sent belongs to nobody.
    conversation.feed(#"{"return": {}, "id": 1}"#)
    #expect(conversation.session.unknownReplies == 1)
    conversation.feed(#"{"return": {}, "id": 0}"#)
    #expect(
      conversation.takeText()
        == #"{"execute":"nbd-server-stop","id":1}"# + "\n" + #"{"execute":"cont","id":2}"# + "\n")
    #expect(first.rawValue == 1 && second.rawValue == 2)
  }

  static let notGreetings: [(String, String)] = [
    (#"{"event":1}"#, "the first message is no QMP greeting"),
    (#"{"error":"no"}"#, "the first message is no QMP greeting"),
    (#"{"event":"STOP","return":{}}"#, "the first message is no QMP greeting"),
    (#"{"id":7}"#, "the first message is no QMP greeting"),
    ("{}", "the first message is no QMP greeting"),
    (#"{"QMP":1}"#, "the first message is no QMP greeting"),
    (#"{"QMP":null}"#, "the first message is no QMP greeting"),
    (#"{"QMP":{}}"#, "the QMP greeting names no version"),
    (#"{"QMP":{"version":{"qemu":[7,2,0]}}}"#, "the QMP greeting names no version"),
    (
      #"{"QMP":{"version":{"qemu":{"major":7,"minor":"2","micro":0}}}}"#,
      "the QMP greeting names no version"
    ),
    (
      #"{"QMP":{"version":{"qemu":{"major":18446744073709551615,"minor":2,"micro":0}}}}"#,
      "the QMP greeting names no version"
    ),
    ("SSH-2.0-OpenSSH_9.2", "a message begins with something other than '{'"),
    ("[1]", "a message begins with something other than '{'"),
    ("\u{FEFF}{}", "a message begins with something other than '{'"),
    ("HTTP/1.1 400 Bad Request", "a message begins with something other than '{'"),
  ]

  @Test(arguments: notGreetings)
  func anythingElseFailsTheSession(_ text: String, _ why: String) {
    var conversation = Conversation()
    conversation.feed(text + "\r\n" + Conversation.greeting)
    #expect(conversation.takeNotices() == [.protocolViolated(why)])
    #expect(conversation.session.state == .failed(why))
    #expect(conversation.takeText() == "")
  }

  @Test func refusedCapabilitiesFailTheSession() {
    var conversation = Conversation()
    conversation.feed(Conversation.greeting)
    conversation.feed(#"{"id":0,"error":{"class":"GenericError","desc":"not today"}}"#)
    let why = "QEMU refused 'qmp_capabilities': not today"
    #expect(conversation.takeNotices() == [.protocolViolated(why)])
    #expect(conversation.session.state == .failed(why))
  }

  @Test func negotiationIsAnsweredOnce() {
    var conversation = Conversation.ready()
    conversation.feed(#"{"return":{},"id":0}"# + Conversation.greeting)
    #expect(conversation.takeNotices() == [])
    #expect(conversation.session.unknownReplies == 1)
    #expect(conversation.session.unknownMessages == 1)
    #expect(conversation.session.state == .ready)
  }

  @Test func versionsCompareByNumbers() {
    let old = QMPVersion(major: 7, minor: 2, micro: 22, package: "Debian")
    #expect(old < QMPVersion(major: 10, minor: 0, micro: 0))
    #expect(old < QMPVersion(major: 7, minor: 10, micro: 0))
    #expect(old < QMPVersion(major: 7, minor: 2, micro: 23))
    #expect(old == QMPVersion(major: 7, minor: 2, micro: 22, package: "another"))
  }
}
