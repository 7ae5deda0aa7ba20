"""What is deployed, and how: deploy.sh and the pinned requirements."""
