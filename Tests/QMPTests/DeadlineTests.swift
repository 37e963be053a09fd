import QMP
import Testing

@Suite struct DeadlineTests {
  @Test func deadlinesAreInstantsAndTheEarliestIsNext() throws {
    var conversation = Conversation.ready()
    #expect(conversation.session.nextDeadlineNanoseconds == nil)
    let late = try conversation.session.execute("a", deadlineNanoseconds: 300)
    _ = try conversation.session.execute("b", deadlineNanoseconds: nil)
    let early = try conversation.session.execute("c", deadlineNanoseconds: 100)
    #expect(conversation.session.nextDeadlineNanoseconds == 100)
    conversation.session.deadlineReached(nowNanoseconds: 99, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [])
    conversation.session.deadlineReached(nowNanoseconds: 100, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.timedOut(early)])
    #expect(conversation.session.nextDeadlineNanoseconds == 300)
    conversation.session.deadlineReached(nowNanoseconds: .max, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.timedOut(late)])
    #expect(conversation.session.nextDeadlineNanoseconds == nil)
  }

  @Test func aTimeOutDropsTheWaiterButNotTheID() throws {
    var conversation = Conversation.ready()
    let first = try conversation.session.execute("cont", deadlineNanoseconds: 10)
    conversation.session.deadlineReached(nowNanoseconds: 10, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.timedOut(first)])
    let second = try conversation.session.execute("cont", deadlineNanoseconds: 20)
    #expect(second != first)
    conversation.feed(#"{"return":{},"id":1}{"error":{},"id":1}{"return":{},"id":2}"#)
    #expect(conversation.takeNotices() == [.reply(second, [:])])
    #expect(conversation.session.lateReplies == 1)
    #expect(conversation.session.unknownReplies == 1)
  }

  @Test func aReplyBeforeTheCallDisarmsTheDeadline() throws {
    var conversation = Conversation.ready()
    let id = try conversation.session.execute("cont", deadlineNanoseconds: 10)
    conversation.feed(#"{"return":{},"id":1}"#)
    conversation.session.deadlineReached(nowNanoseconds: 11, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.reply(id, [:])])
  }

  @Test func aCommandThatTimedOutWhileHeldBackIsNeverSent() throws {
    var conversation = Conversation()
    let grant = try conversation.session.execute("cont", deadlineNanoseconds: 10)
    _ = try conversation.session.execute("query-status", deadlineNanoseconds: nil)
    conversation.session.deadlineReached(nowNanoseconds: 10, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.timedOut(grant)])
    conversation.feed(Conversation.greeting + #"{"return":{},"id":0}{"return":{},"id":1}"#)
    #expect(
      conversation.takeText()
        == #"{"execute":"qmp_capabilities","id":0}"# + "\n"
        + #"{"execute":"query-status","id":2}"# + "\n")
    #expect(conversation.session.lateReplies == 0 && conversation.session.unknownReplies == 1)
  }

  @Test func timedOutCommandsAreRememberedUpToALimit() throws {
    var conversation = Conversation.ready(limits: QMPLimits(maximumAbandoned: 2))
    for _ in 0..<3 { _ = try conversation.session.execute("a", deadlineNanoseconds: 1) }
    conversation.session.deadlineReached(nowNanoseconds: 1, notices: &conversation.notices)
    conversation.feed(#"{"return":{},"id":1}{"return":{},"id":2}{"return":{},"id":3}"#)
    #expect(conversation.session.unknownReplies == 1)
    #expect(conversation.session.lateReplies == 2)
  }

  @Test func theWholeRangeOfInstantsIsFine() throws {
    var conversation = Conversation.ready()
    let past = try conversation.session.execute("a", deadlineNanoseconds: .min)
    let future = try conversation.session.execute("b", deadlineNanoseconds: .max)
    #expect(conversation.session.nextDeadlineNanoseconds == .min)
    conversation.session.deadlineReached(nowNanoseconds: .min, notices: &conversation.notices)
    conversation.session.deadlineReached(nowNanoseconds: .max, notices: &conversation.notices)
    #expect(conversation.takeNotices() == [.timedOut(past), .timedOut(future)])
  }
}
