// Intrusive, circular, doubly linked list membership. A Hook leaves its list when it is destroyed,
// which is what lets a waiting coroutine be destroyed at any moment. Not movable, not thread-safe.
#pragma once

namespace mayfly {

class Hook {
 public:
  Hook() = default;
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;
  ~Hook() { unlink(); }

  bool linked() const { return next_ != this; }
  void unlink() {
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = this;
  }

 private:
  template <typename Node>
  friend class HookList;
  Hook* next_ = this;
  Hook* previous_ = this;
};

// A list of Nodes, which derive from Hook. It owns nothing: what is left in it when it is destroyed
// is merely unlinked.
template <typename Node>
class HookList {
 public:
  HookList() = default;
  ~HookList() {
    while (!empty()) front().unlink();
  }
  HookList(const HookList&) = delete;
  HookList& operator=(const HookList&) = delete;

  bool empty() const { return !head_.linked(); }
  Node& front() { return static_cast<Node&>(*head_.next_); }
  void push_back(Node& node) { insert_before(head_, node); }
  void push_front(Node& node) {
    static_cast<Hook&>(node).unlink();  // it may be the front itself
    insert_before(*head_.next_, node);
  }
  Node& pop_front() {
    Node& node = front();
    node.unlink();
    return node;
  }
  // The function may unlink the node it is given, and no other.
  template <typename Function>
  void for_each(Function function) {
    for (Hook* hook = head_.next_; hook != &head_;) {
      Hook* next = hook->next_;
      function(static_cast<Node&>(*hook));
      hook = next;
    }
  }
  // The same until the function returns false; whether it never did.
  template <typename Function>
  bool for_each_while(Function function) {
    for (Hook* hook = head_.next_; hook != &head_;) {
      Hook* next = hook->next_;
      if (!function(static_cast<Node&>(*hook))) return false;
      hook = next;
    }
    return true;
  }
  // Moves every node of `other` to the end of this list.
  void splice(HookList& other) {
    while (!other.empty()) push_back(other.pop_front());
  }

 private:
  // `place` is not `hook`.
  static void insert_before(Hook& place, Hook& hook) {
    hook.unlink();
    hook.previous_ = place.previous_;
    hook.next_ = &place;
    place.previous_->next_ = &hook;
    place.previous_ = &hook;
  }

  Hook head_;
};

}  // namespace mayfly
