package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// What comes next, or that it takes too long. Nothing comes from a channel that was closed.
func await[T any](ctx context.Context, channel <-chan T) (T, error) {
	select {
	case next := <-channel:
		return next, nil
	case <-ctx.Done():
		var nothing T
		return nothing, errors.New("waited too long")
	}
}

// Takes from a watch until it has told `count` events, in order, of one response each or of one.
func take(ctx context.Context, watch clientv3.WatchChan, count int) ([]*clientv3.Event, error) {
	var events []*clientv3.Event
	for len(events) < count {
		response, err := await(ctx, watch)
		if err == nil {
			err = response.Err()
		}
		if err == nil && !response.Created && len(response.Events) == 0 {
			err = errors.New("the watch has ended")
		}
		if err != nil {
			return nil, err
		}
		for _, event := range response.Events {
			events = append(events, (*clientv3.Event)(event))
		}
	}
	return events, nil
}

func text(event *clientv3.Event) string {
	previous := ""
	if event.PrevKv != nil {
		previous = " was " + string(event.PrevKv.Value)
	}
	return fmt.Sprintf("%s %s=%s%s", event.Type, event.Kv.Key, event.Kv.Value, previous)
}

func live(ctx context.Context, client *clientv3.Client) error {
	var c checks
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := own + "watch/"
	created := client.Watch(ctx, key, clientv3.WithPrefix(), clientv3.WithCreatedNotify(),
		clientv3.WithPrevKV())
	first, err := await(ctx, created)
	if err != nil {
		return err
	}
	c.same("created", true, first.Created && !first.Canceled)
	puts := client.Watch(ctx, key, clientv3.WithPrefix(), clientv3.WithFilterDelete(),
		clientv3.WithRev(first.Header.Revision+1))
	deletes := client.Watch(ctx, key, clientv3.WithFromKey(), clientv3.WithFilterPut(),
		clientv3.WithRev(first.Header.Revision+1))
	single := client.Watch(ctx, key+"b", clientv3.WithRev(first.Header.Revision+1))

	txn, err := client.Txn(ctx).Then(
		clientv3.OpPut(key+"b", "1"), clientv3.OpPut(key+"a", "2"),
	).Commit()
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, key+"a", "3"); err != nil {
		return err
	}
	if _, err := client.Delete(ctx, key, clientv3.WithPrefix()); err != nil {
		return err
	}
	both, err := await(ctx, created)
	if err != nil {
		return err
	}
	c.same("both of a transaction at once", 2, len(both.Events))
	c.same("its revision", txn.Header.Revision, both.Header.Revision)
	c.same("created by it", true, (*clientv3.Event)(both.Events[0]).IsCreate())
	rest, err := take(ctx, created, 3)
	if err != nil {
		return err
	}
	c.same("modified", true, rest[0].IsModify())
	expect := func(what string, watch clientv3.WatchChan, expected ...string) {
		events, err := take(ctx, watch, len(expected))
		if err != nil {
			c.same(what, nil, err)
			return
		}
		for n, event := range events {
			c.same(what, expected[n], text(event))
		}
	}
	for n, expected := range []string{
		"PUT go/watch/a=3 was 2", "DELETE go/watch/a= was 3", "DELETE go/watch/b= was 1",
	} {
		c.same("with what was before", expected, text(rest[n]))
	}
	expect("puts", puts, "PUT go/watch/b=1", "PUT go/watch/a=2", "PUT go/watch/a=3")
	expect("deletes", deletes, "DELETE go/watch/a=", "DELETE go/watch/b=")
	expect("one key", single, "PUT go/watch/b=1", "DELETE go/watch/b=")
	cancel()
	for range created {
	}
	return c.err
}

// What a quiet watch says of how far it has come, by itself and asked.
func progress(ctx context.Context, client *clientv3.Client) error {
	var c checks
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	put, err := client.Put(ctx, own+"other", "v")
	if err != nil {
		return err
	}
	revision := put.Header.Revision
	quiet := client.Watch(ctx, own+"quiet", clientv3.WithProgressNotify())
	told, err := await(ctx, quiet)
	if err != nil {
		return err
	}
	c.same("by itself", true, told.IsProgressNotify() && told.Header.Revision >= revision)
	asked := client.Watch(ctx, own+"asked", clientv3.WithCreatedNotify())
	if _, err := await(ctx, asked); err != nil {
		return err
	}
	for answered := false; !answered; {
		if err := client.RequestProgress(ctx); err != nil {
			return err
		}
		told, err := await(ctx, asked)
		if err != nil {
			return err
		}
		answered = told.IsProgressNotify() && told.Header.Revision >= revision
	}
	return c.err
}

// A transaction of many large values comes in parts, if that is asked for.
func large(ctx context.Context, client *clientv3.Client) error {
	var c checks
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := int64(0)
	for n := range 6 {
		key, value := fmt.Sprintf("%slarge/%d", own, n), strings.Repeat("v", 1<<20)
		put, err := client.Put(ctx, key, value)
		if err != nil {
			return err
		}
		if n == 0 {
			start = put.Header.Revision
		}
	}
	deleted, err := client.Delete(ctx, own+"large/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	c.same("deleted", int64(6), deleted.Deleted)
	parts := client.Watch(ctx, own+"large/", clientv3.WithPrefix(), clientv3.WithFragment(),
		clientv3.WithPrevKV(), clientv3.WithRev(start))
	events, err := take(ctx, parts, 12)
	if err != nil {
		return err
	}
	for n, event := range events[6:] {
		c.same("deleted key", fmt.Sprintf("%slarge/%d", own, n), string(event.Kv.Key))
		c.same("size of what was before", 1<<20, len(event.PrevKv.Value))
	}
	return c.err
}

func compacted(ctx context.Context, client *clientv3.Client) error {
	var c checks
	first, err := client.Put(ctx, own+"old", "1")
	if err != nil {
		return err
	}
	last, err := client.Put(ctx, own+"old", "2")
	if err != nil {
		return err
	}
	if _, err := client.Compact(ctx, last.Header.Revision); err != nil {
		return err
	}
	watch := client.Watch(ctx, own+"old", clientv3.WithRev(first.Header.Revision))
	told, err := await(ctx, watch)
	if err != nil {
		return err
	}
	c.same("told", true, told.Canceled && errors.Is(told.Err(), rpctypes.ErrCompacted))
	c.same("up to", last.Header.Revision, told.CompactRevision)
	end, err := await(ctx, watch)
	if err != nil {
		return err
	}
	c.same("closed", true, end.Header == nil && !end.Canceled)
	// The revision that was compacted is still there to begin with.
	events, err := take(ctx, client.Watch(ctx, own+"old", clientv3.WithRev(told.CompactRevision)), 1)
	if err != nil {
		return err
	}
	c.same("after it", "PUT go/old=2", text(events[0]))
	return c.err
}

// Many watchers on one stream, of which each sees its own key.
func manyWatches(ctx context.Context, client *clientv3.Client) error {
	var c checks
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const count = 200
	var all []clientv3.WatchChan
	for n := range count {
		key := fmt.Sprintf("%smany/%03d", own, n)
		all = append(all, client.Watch(ctx, key, clientv3.WithCreatedNotify()))
	}
	for _, watch := range all {
		told, err := await(ctx, watch)
		if err != nil {
			return err
		}
		c.same("created", true, told.Created)
	}
	for n := range count {
		key := fmt.Sprintf("%smany/%03d", own, n)
		if _, err := client.Put(ctx, key, fmt.Sprint(n)); err != nil {
			return err
		}
	}
	for n, watch := range all {
		events, err := take(ctx, watch, 1)
		if err != nil {
			return err
		}
		c.same("its own", fmt.Sprintf("PUT %smany/%03d=%d", own, n, n), text(events[0]))
	}
	return c.err
}

// A watch goes on where it was when the server is there again, and a lease is still alive.
func restart(ctx context.Context, client *clientv3.Client) error {
	var c checks
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lease, err := client.Grant(ctx, 15)
	if err != nil {
		return err
	}
	kept, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	if _, err := await(ctx, kept); err != nil {
		return err
	}
	key := own + "restart/"
	watch := client.Watch(ctx, key, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if _, err := await(ctx, watch); err != nil {
		return err
	}
	if _, err := client.Put(ctx, key+"a", "0", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	before, err := take(ctx, watch, 1)
	if err != nil {
		return err
	}
	fmt.Println("restart")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	for n := range 5 {
		if _, err := client.Put(ctx, key+"b", fmt.Sprint(n)); err != nil {
			return err
		}
	}
	after, err := take(ctx, watch, 5)
	if err != nil {
		return err
	}
	for n, event := range after {
		c.same("after the restart", fmt.Sprintf("PUT %sb=%d", key, n), text(event))
		c.same("without a gap", before[0].Kv.ModRevision+int64(n)+1, event.Kv.ModRevision)
	}
	if _, err := client.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	gone, err := take(ctx, watch, 1)
	if err != nil {
		return err
	}
	c.same("the lease's key", "DELETE "+key+"a=", text(gone[0]))
	for alive := true; alive; {
		reply, err := await(ctx, kept)
		if err != nil {
			return err
		}
		alive = reply != nil
	}
	return c.err
}
