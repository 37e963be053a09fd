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

  @Test func commandsAreHeldBackUntilNegotiatedThenTravelTogether() throws {
    var conversation = Conversation(wantsOutOfBand: true)
    let first = try conversation.session.execute("nbd-server-stop", deadlineNanoseconds: nil)
    conversation.feed(Conversation.greeting)
    let second = try conversation.session.execute("cont", deadlineNanoseconds: nil)
    #expect(
      conversation.takeText()
        == #"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}"# + "\n")
    conversation.feed(#"{"return": {}, "id": 0}"#)
    #expect(
      conversation.takeText()
        == #"{"execute":"nbd-server-stop","id":1}"# + "\n" + #"{"execute":"cont","id":2}"# + "\n")
    #expect(first.rawValue == 1 && second.rawValue == 2)
  }
}
